"""What programs, shells, compilers and harnesses print when something fails.

Each pattern is anchored: to the start of the response, to the start of a line, or to the end of a line
behind a program's name. A bare word is never enough. They are the fixed strings of the tools themselves
(``strerror``, ``getopt``, the shells' parsers, build tools, test runners), not phrases of single logs.
"""

from __future__ import annotations

from typing import Final

# What an error message says. Only applied where something else proves that it is an error message
# (a flag, a status, an error field), or anchored at the start of the response.
MEANING: Final = {
    "timeout": r"(?i)\btimed?[ -]?out(?:error|exception|expired)?\b|deadline exceeded|\bexit code:? (?:124|137)\b|"
    r"no new output after \d+",
    "rate_limit": r"(?i)\b429\b|rate.?limit|too many requests|quota exceeded|overloaded",
    "auth": r"(?i)\b40[13]\b|permission denied|unauthori[sz]ed|forbidden|not authenticated|"
    r"authentication (?:failed|required)|access denied|not logged in",
    "not_found": r"(?i)\b404\b|\bENOENT\b|no such (?:file|directory|user|item|key|order)|not found|"
    r"does(?: not|n't) exist|could not find|cannot find",
    "http_error": r"(?i)\b(?:HTTP|status)\D{0,12}5\d\d\b|internal server error|bad gateway|"
    r"service unavailable|connection (?:refused|reset|aborted|error)",
    "harness_format": r"(?i)(?:unknown|invalid|no such|unsupported|unrecognized) (?:tool|function)\b|"
    r"\btool \S{1,60} (?:not found|does not exist|is not available)|InputValidationError|"
    r"invalid (?:tool )?(?:arguments|parameters|input)\b|validation errors? for|"
    r"missing \d* ?required (?:positional |keyword-only )?(?:argument|parameter|propert)|"
    r"unexpected keyword argument|failed to parse (?:arguments|tool|json|action)|"
    r"(?:argument|parameter)s? (?:is|are) missing|is a required property",
    "user_interrupt": r"(?i)interrupted by (?:the )?user|user (?:rejected|denied|cancelled|canceled|"
    r"doesn't want)|request (?:was )?cancell?ed by",
    "context_limit": r"(?i)maximum context length|context (?:window|length) exceeded|"
    r"prompt is too long",
}
MESSAGE_ORDER: Final = (
    "user_interrupt",
    "harness_format",
    "context_limit",
    "timeout",
    "rate_limit",
    "auth",
    "not_found",
    "http_error",
)

TRACEBACK: Final = r"(?m)^(?:(?:Code o|O)utput: *)?Traceback \(most recent call last\)"
EXCEPTION: Final = r"(?m)^\s*(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Warning: Error)(?::|$)"

_LABEL = r"(?:call id|code output|output|observation|result|stdout|stderr): ?[\w-]*\s*"
_WRAPPED = rf"^\s*(?:</?[\w-]+>\s*|{_LABEL})*"
"""The start of a response, whatever tags and labels stand before it."""
SAYS_ERROR: Final = (
    rf"(?i){_WRAPPED}(?:an )?(?:(?:error|fatal|failed|exception)\b\s*"
    r"(?:\(|:|!|-|while|when|during|in |calling|executing|occurred|\w+ing\b)|(?:\w+ ){0,3}error occurred\b)"
)
REFUSED: Final = (
    # The framework or its user, at the start of the response.
    rf"(?i){_WRAPPED}(?:the )?user (?:doesn't want|does not want|rejected|denied|cancell?ed|declined)\b|"
    r"^\[Request interrupted by user|^\s*<tool_use_error>",
    rf"(?i){_WRAPPED}(?:the )?(?:tool execution|tool call|command|operation|request|execution) "
    r"(?:was |has been )?(?:aborted|interrupted|cancell?ed|killed|rejected)\b",
    r"(?im)^(?:the )?(?:command|operation|execution) (?:was )?(?:aborted|cancell?ed|interrupted|killed)\.?\s*\z",
    rf"(?i){_WRAPPED}(?:request|fetch(?:ing)?|http|response)\b[^\n]{{0,60}}\b(?:status|code)(?: code)?:? ?[45]\d\d\b",
    # The tool itself.
    rf"(?i){_WRAPPED}(?:cannot|can't|could not|couldn't|unable to|failed to|refusing to|not allowed to) \w",
    rf"(?i){_WRAPPED}(?:string to replace|old[_ ]?(?:string|text|str)|(?:the )?(?:search|old) (?:block|text))\b[^\n]{{0,80}}"
    r"(?:not found|did not|does not|not unique|must match)",
    rf"(?i){_WRAPPED}(?:[\w.'`-]+ ){{1,4}}must (?:not )?(?:be|have|contain|start|match)\b[^\n]{{0,200}}\s*$",
    rf"(?i){_WRAPPED}(?:unknown|unsupported|unrecogni[sz]ed) (?:language|command|action|option|argument|parameter)\b",
    rf"(?i){_WRAPPED}(?:the )?(?:\w+ ){{0,4}}limit(?: of [^\n]{{1,40}})? (?:was |has been |is )?(?:exceeded|reached)\b",
)
TIMED_OUT: Final = (
    r"(?i)^\W*(?:the )?(?:command|operation|request|(?:tool )?call|execution|action)\b.{0,80}\btimed? ?out|"
    r"(?m:^\[?The command (?:has no new output|timed out) after \d+|^Timeout\s*$)"
)

_ERRNO = (
    "Address already in use|Argument list too long|Bad address|Bad file descriptor|Broken pipe|"
    "Cannot allocate memory|Connection refused|Connection reset by peer|Connection timed out|"
    "Device or resource busy|Directory nonexistent|Directory not empty|Exec format error|"
    "File exists|File name too long|File too large|Function not implemented|"
    "Inappropriate ioctl for device|Input/output error|Invalid argument|Invalid cross-device link|"
    "Is a directory|Name or service not known|Network is unreachable|No route to host|"
    "No space left on device|No such device(?: or address)?|No such file or directory|No such process|"
    "Not a directory|Operation not permitted|Operation not supported|Operation timed out|"
    "Permission denied|Protocol not supported|Read-only file system|Resource temporarily unavailable|"
    "Temporary failure in name resolution|Text file busy|Too many levels of symbolic links|"
    "Too many open files"
)
_GETOPT = (
    r"(?:invalid|illegal|unrecognized|unknown) option|option \S+ (?:requires an argument|is ambiguous)|"
    r"option requires an argument|missing (?:file )?operand|extra operand|missing argument to|"
    r"unknown (?:predicate|primary)|paths must precede expression|too (?:many|few) arguments|bad usage"
)
_REFUSES = (
    r"cannot |can't |could not |unable to |failed to |refusing to |invalid |illegal |not a |"
    r"missing |you (?:may|must) |error[: ]|fatal[: ]|"
    r"(?:line \d+: )?syntax error|parse error|read error|write error"
)
PROGRAM_LINE: Final = r"(?m)^(?:/bin/)?[\w./+-]+: [^\n]*"
"""What a program says behind its name: matched by parts, since one expression for a name of so many
letters of any script, and what may follow, is a large automaton: it takes 0.1 s and 30 MB to make."""
LONGEST_PROGRAM: Final = 40
"""Characters of a program's name, ``/bin/`` apart."""
PROGRAMS_ERROR: Final = rf"^(?:\(\d+\) )?(?:[^\n]{{0,300}}[: (])?(?:{_ERRNO})\)?\s*$"
"""``strerror`` behind what the program could not handle."""
NUMBERED: Final = r"^\(\d+\) "
PROGRAMS_USAGE: Final = rf"(?i)^(?:-\S+: )?(?:{_GETOPT})"
"""``getopt``."""
PROGRAMS_OBJECT: Final = r"^[\w./'-]+$"
LONGEST_OBJECT: Final = 60
"""Characters of what a program names before it says why it refuses."""
PROGRAM_REFUSES: Final = rf"(?i)^(?:{_REFUSES})"
SHELL: Final = (
    # getopt's hint
    r"(?m)^Try '[^'\n]+ --?h(?:elp)?' for more information",
    # the parsers of shells; what stands before the colon may be any word of the command
    r"(?m)^[^\n]{0,200}: (?:-c: )?(?:line )?\d+: [^\n]{0,200}?"
    r"(?:syntax error|unexpected EOF|not found|unbound variable|bad substitution|unexpected end of file|"
    r"cannot )",
    r"(?m)^[^\n]{0,200}: (?:command not found|cannot execute binary file)[^\n]{0,40}$",
    # interpreters of small programs name a line of theirs; clients of the web a number
    r"(?m)^(?:/usr)?(?:/bin/)?(?:[gmn]?awk|g?sed|jq|bc|perl): (?:-e expression #\d+, char \d+:|(?:cmd\. )?(?:line:? ?)\d+:|error)",
    r"(?m)^curl: \(\d+\) |^wget: \S|^\S+ \S+ ERROR \d{3}: ",
)
DIAGNOSIS: Final = r"(?m)^[\w./+-]{1,60}: (?:line )?\S|^Traceback |^(?i:error|fatal)\b"
"""A line with which programs begin an error message: their name and a colon."""

BUILD: Final = (
    r"(?m)^(?:g?make|ninja)(?:\[\d+\])?: (?:\*\*\*|build stopped)",
    r"(?m)^CMake Error\b|^-- Configuring incomplete, errors occurred",
    r"(?m)^E: [A-Z]",  # apt
    r"(?m)^E(?:RROR|rror): [^(\s]|^npm (?:ERR!|error) |^yarn error |^error(?:\[E\d+\])?: |^fatal: |^FATAL: ",
    r"(?m)^[^\s:][^\n:]{0,200}:\d+(?::\d+)?: (?:fatal )?error: ",  # compilers
    r"(?m)^[^\n(]{1,200}\(\d+,\d+\): error \w+: |^error TS\d+: |^\s*\S+:\d+:\d+ - error",
    r"(?m)^Found [1-9]\d* errors?\b|^[1-9]\d* errors?, \d+ warnings?|^Node\.js v\d[\d.]*\s*$",
    r"(?m)^collect2: error|^ld: |^\w+: compilation failed|^compilation terminated",
    r"(?m)^Segmentation fault|^Aborted\b|^Killed$|^Illegal instruction|^Bus error|\(core dumped\)\s*$",
    r"(?m)^panic: |^thread '[^'\n]*' panicked at |^Exception in thread |^Unhandled exception|"
    r"^Uncaught |^goroutine \d+ \[running\]",
)
TESTS: Final = (
    r"(?m)^=+ (?:[^\n=]*, )?\d+ (?:failed|errors?)\b[^\n]* in [\d.]+",  # pytest
    r"(?m)^FAILED \((?:failures|errors)=\d+|^FAILED \S+::|^--- FAIL: |^FAIL\t|^FAIL \S+|"
    r"^Tests:\s+\d+ failed",
)

TRUNCATION: Final = (
    r"(?i)(?:\[|<|\(|\.\.\. ?)(?:output |response |text |observation )?(?:was )?"
    r"(?:truncated|clipped|elided)|\d+ (?:characters|chars|bytes|lines) (?:were )?"
    r"(?:omitted|truncated|elided)|response clipped"
)
INJECTION: Final = (
    r"(?i)ignore (?:all |any )?(?:the )?(?:previous|prior|above|earlier) (?:instructions|messages|prompts)|"
    r"<\|im_(?:start|end)\|>|<INFORMATION>\s*This is an important message|"
    r"(?m:^\s*(?:system|assistant)\s*:\s*you )"
)
ZERO_WIDTH: Final = "[\u200b\u200c\u2060\u2062-\u2064\U000e0020-\U000e007f]"
NO_OP: Final = (
    r"(?i)^\s*(?:no changes?(?: were)?(?: made)?|nothing to (?:commit|do|update)|no replacement was|"
    r"already (?:exists|up[ -]to[ -]date)|no match(?:es)? (?:was |were )?found for replacement)"
)
CONTROL: Final = "[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f\ufffd]"

FROM_CACHE: Final = (
    r"(?i)\b(?:served|returned|loaded|answered|fetched|read|results?|response|data) (?:is |are |was |were )?"
    r"from (?:an? |the |our )?(?:[\w-]+ )?cache\b|\bcached (?:at|on|copy|\d+ \w+ ago)\b|"
    r"\b(?:may|might|could) be (?:stale|outdated|out of date|out-of-date)\b|\bx-cache: hit|"
    r'"(?:is_|from_)?(?:cached?|stale)"\s*:\s*true'
)
"""A notice that the response is not of now. Only for what a tool tells, not for files that it shows."""

JSON_START: Final = r'^\s*(?:\[\s*)*\{\s*"(?:[^"\\\n]|\\.){1,64}"\s*:'
"""An object, or a list of them, with a first key: Python's own notation begins otherwise."""
MORE_THAN_JSON: Final = r"[}\]]\s*\n\s*\{|\n[^\s{}\[\]\",]|[}\]]\s+[\w(<*-]"
"""JSON Lines, and JSON with words behind it."""
JSON_REMAINS: Final = r'"\s*:\s*[\[{"\d-]|^[^\n]{0,40}[}\]"],\s*[\[{"]|[}\]]\s*$'
"""What is left of JSON whose beginning is lost."""

STATUS: Final = (
    r"(?mi)^[\[(]*(?:(?:the |this )?(?:command|process|program|script)\b[^\n]{0,30}? )?(?:with )?"
    r"exit(?:ed)?(?: with)?(?:[ _]exit)?[ _]?(?:code|status)[:=]? *(-?\d{1,9})\b"
    r"(?: \(execution (?:succeeded|failed)\))?|"
    r"<(?:returncode|exit_code)>\s*(-?\d{1,9})\s*</(?:returncode|exit_code)>"
)
"""An exit status told in words, as terminals for agents print it; its number is in a group."""

SHOWS_FILES: Final = (
    r"^\W*(?:cd [^;&|]+(?:;|&&) *)?(?:(?:cat|head|tail|less|more|nl) +[^\s<>]|"
    r"(?:sed -n|grep|egrep|rg|ag|find|git (?:log|show|diff|grep))\b)"
)
"""A command whose output is what files hold, so that an error in it is a text about an error. Not a
``cat > file <<EOF``, which writes one."""

NOTHING: Final = r'^\s*(?:\[\]|\{\}|null|None|"")?\s*$'
LONGEST_NOTHING: Final = 4
"""Characters that it takes at the most, white space apart."""

# One regular expression for all texts: the rules' own cost many times as much. Each of them matches only
# where one of these does (a test draws texts from every rule and holds this to it).
_NEEDED = (
    # whatever tells of an error
    r"error|exception|traceback|fatal|fail|denied|reject|declined|abort|interrupt|cancel|kill|refus|cannot|can't|"
    r"could ?n[o']t|could not|unable|not allowed|not found|did not|does ?n[o']t|does not|not unique|must |unknown|"
    r"unsupported|unrecogni|exceeded|reached|time[d ]? ?out|output after|bad |usage|invalid|illegal|missing|"
    r"(?:status|code)(?: code)?:? ?[45]\d\d|panic|uncaught|goroutine|core dumped|segmentation|compilation|",
    # strerror
    r"already |too (?:long|large|many|few)|broken pipe|busy|directory non|not empty|exists|not implemented|ioctl|"
    r"is a directory|not a |not known|unreachable|no route|no space|no such|not permitted|not supported|"
    r"read-only|unavailable|",
    # getopt, shells and build tools
    r"requires an|ambiguous|operand|argument|you may|paths must|for more information|unexpected|unbound|"
    r"(?:awk|sed|jq|bc|perl|curl|wget|ld): |\*\*\*|build stopped|node\.js v|(?-i:E: [A-Z])|",
    # cut, injected, unchanged, cached
    r"truncated|clipped|elided|omitted|ignore |<\|im_|<information|(?:system|assistant)\s*:|no change|"
    r"nothing to|no replacement|no match|cache|stale|outdated|out.of.date|",
    # statuses, in words and in JSON, whose keys may be escaped
    r'exit|returncode|"(?:success|ok)"\s*:\s*"?false|"(?:status_?code|code)"\s*:\s*"?\+?0*[45]\d\d|'
    r"\\u00[4-7]|",
)
NEEDED: Final = f"(?i){''.join(_NEEDED)}{ZERO_WIDTH[:-1]}{CONTROL[1:]}"
"""Anything without which no rule for a text can match; as one search through the whole of it."""
