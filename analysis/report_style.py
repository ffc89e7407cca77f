"""The look of the HTML report: light and dark, wide, narrow and on paper."""

from __future__ import annotations

from analysis.plots.theme import page_colours

_LAYOUT = """
*{box-sizing:border-box}html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,'Segoe UI',Helvetica,Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:44px 28px 80px}
a{color:var(--accent);text-decoration:none}a:hover,a:focus-visible{text-decoration:underline}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
.brand{margin:0 0 10px;color:var(--soft);font-size:13.5px}
.brand b{color:var(--accent);font-weight:650}
h1{font-size:15px;font-weight:600;color:var(--soft);margin:0 0 8px}
h2{font-size:14px;font-weight:600;color:var(--soft);margin:0 0 4px}
header{padding:0 0 10px}
.answer>p{font-size:29px;line-height:1.28;font-weight:650;letter-spacing:-.014em;margin:0;max-width:31em;overflow-wrap:anywhere;text-wrap:pretty}
.answer>ul{list-style:none;margin:20px 0 0;padding:0;display:grid;gap:8px 36px;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr))}
.answer>ul>li{padding:2px 0 2px 14px;border-left:3px solid var(--accent);overflow-wrap:anywhere;text-wrap:pretty}
.answer>details{margin:14px 0 0}
.notes{color:var(--soft);margin:16px 0 0;padding-left:18px;font-size:13.5px}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin:22px 0 16px;padding:12px 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line);font-size:13.5px}
.grid{display:grid;gap:18px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));align-items:start;grid-auto-flow:dense}
section{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:20px 22px 16px;min-width:0;scroll-margin-top:12px}
.grid+section,section+section,section.card{margin-top:18px}
.grid>section{margin-top:0}
.grid>section:has(>.numbers[open]),.grid>section.wide{grid-column:1/-1}
@media(min-width:1000px){.grid>section.wide:not(:has(.numbers[open])){display:grid;grid-template-columns:2fr 3fr;gap:0 36px}}
section.wide figure{margin-top:0}
.lead{font-size:17px;line-height:1.4;font-weight:600;margin:0 0 14px;overflow-wrap:anywhere;text-wrap:pretty}
figure{margin:0 0 10px}
figure svg{display:block;max-width:100%;height:auto;overflow:visible}
figcaption{color:var(--soft);font-size:12.5px;margin:6px 0 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th{font-weight:600;color:var(--soft);border-bottom:1px solid var(--line);vertical-align:bottom}
th,td{padding:5px 14px 5px 0;text-align:left}
td{border-bottom:1px solid var(--line);vertical-align:top;max-width:34em;overflow-wrap:break-word}td.t{min-width:6em}
tr:last-child td{border-bottom:0}
th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}
summary{cursor:pointer;color:var(--accent);font-size:13px;width:fit-content}
.numbers>summary{padding:6px 0}.numbers[open]>summary{margin-bottom:6px}
td details summary{white-space:nowrap;font-size:12px}
details p{margin:6px 0;max-width:64em;font-size:12.5px;overflow-wrap:anywhere}
details p a{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px}
.warnings{list-style:none;margin:10px 0 0;padding:9px 14px;background:var(--mark);border-radius:8px;color:var(--warn);font-size:13px}
.warnings li+li{margin-top:4px}
.method{color:var(--soft);font-size:12.5px;margin:10px 0 0;overflow-wrap:anywhere}
code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.93em;overflow-wrap:anywhere}
.card .derail-card{border:0!important;max-width:none!important;padding:0!important}
.index td{font-size:12px}#runs .scroll{max-height:75vh;overflow:auto}#runs thead th{position:sticky;top:0;background:var(--paper)}tr:target td{background:var(--mark)}
@media(max-width:900px){main{padding:28px 18px 60px}.answer>p{font-size:24px}section{padding:16px}}
@media print{
@page{margin:14mm}
body{background:#fff;font-size:10.5pt}main{max-width:none;padding:0}
nav,summary,.screen{display:none!important}
.answer>p{font-size:19pt}.grid{display:block}
section{break-inside:avoid;border:0;border-top:1px solid var(--line);border-radius:0;padding:10px 0;margin:10px 0!important}
section:has(.scroll){break-inside:auto}figure,tr,.lead{break-inside:avoid}h2,.lead{break-after:avoid}
figure svg{max-width:150mm}
.numbers::details-content{content-visibility:visible!important;block-size:auto!important;opacity:1!important}
table{font-size:8pt}td,th{padding-right:8px}
}
"""


def css() -> str:
    """The style sheet of the report; the colours of its charts are variables of the page."""
    light = (
        "--bg:#f6f7f8;--paper:#ffffff;--ink:#16191d;--soft:#5a626d;--line:#e1e4e8;--accent:#0b5fa5;"
        f"--warn:#7a3d00;--mark:#fdf3e3;{page_colours(dark=False)}"
    )
    dark = (
        "--bg:#0f1115;--paper:#171a1f;--ink:#eceef1;--soft:#a2abb7;--line:#2a2f37;--accent:#6db8f2;"
        f"--warn:#f2b271;--mark:#2b2318;{page_colours(dark=True)}"
    )
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{_LAYOUT}"
    )
