"""Chat templates by chance: every construct that published ones use, nested in one another.

A template is made of statements and typed expressions, over a conversation that is made by chance too. Each
production has a name, so that a test can tell which of them it has really rendered.
"""

import random

PRODUCTIONS = {}


def production(kind):
    def register(function):
        PRODUCTIONS.setdefault(kind, []).append(function)
        return function
    return register


WORDS = ["abc", "Hello World", "  two  blanks ", "it's", 'say "hi"', "both ' and \"", "ünïcödé ß", "日本語 テキスト", "😀🎉",
         "", " ", "\n", "line one\nline two\n\nend", "tab\there", "<b>&amp;</b>", "<think>x</think>answer", "a,b,,c", "12",
         "-3.5", "1e3", "{}", "100%", "a=b&c", "ΣΑΣ", "\\back", "x\r\ny", "\u200bhidden\x07", "UPPER lower", "/path/to?x=1"]
NAMES = ["name", "type", "items", "keys", "values", "get", "count", "role", "content", "x y", "ß", "0"]


class Maker:
    """One template, from one seed."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.used = set()
        self.names = 0
        self.locals = {"str": [], "int": [], "list": [], "dict": [], "any": []}

    def chance(self, p):
        return self.dice.random() < p

    def pick(self, options):
        return self.dice.choice(options)

    def make(self, kind, depth):
        """An expression of the kind, in brackets where it needs them."""
        if depth <= 0:
            return self.leaf(kind)
        if self.locals.get(kind) and self.chance(0.2):
            return self.pick(self.locals[kind])
        if kind == "any":
            kind = self.pick(["str", "int", "float", "bool", "list", "dict", "odd", "tuple"])
        function = self.pick(PRODUCTIONS[kind])
        self.used.add(function.__name__)
        return function(self, depth - 1)

    def some(self, kind):
        """An expression for a statement, as deep as it may be."""
        return self.make(kind, self.dice.randint(1, 3))

    def leaf(self, kind):
        match kind:
            case "str":
                return self.pick([self.quoted(self.pick(WORDS)), "messages[0].content|string", "bos_token", "role"])
            case "int":
                return self.pick(["0", "1", "2", "3", "-1", "7", "(messages|length)", "10", "1000"])
            case "float":
                return self.pick(["0.5", "1.0", "2.75", "1e20", "1e-7", "0.1", "temperature", "1234567.891", "1e16", "-0.0"])
            case "bool":
                return self.pick(["true", "false", "True", "add_generation_prompt", "flag", "missing"])
            case "list":
                return self.pick(["[]", "names", "[1, 2, 3]", "['b', 'A', 'c']", "messages", "numbers"])
            case "dict":
                return self.pick(["{}", "schema", "{'a': 1, 'B': 2}", "messages[0]", "{'items': [1], 'get': 'x'}"])
            case "tuple":
                return self.pick(["()", "(1,)", "('a', 2.5, none)"])
            case "odd":
                return self.pick(["none", "missing", "none", "tools", "documents", "schema.missing", "message.name"])
        return self.leaf(self.pick(["str", "int", "float", "bool", "list", "dict", "odd", "tuple"]))

    def quoted(self, text):
        out = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
        quote = self.pick("'\"")
        return quote + out.replace(quote, "\\" + quote) + quote

    def fresh(self):
        self.names += 1
        return f"v{self.names}"

    def body(self, depth):
        return "".join(self.make("statement", depth) for _ in range(self.dice.randint(1, 3)))

    def scoped(self, depth):
        """A body whose names end with it."""
        kept = {kind: list(names) for kind, names in self.locals.items()}
        text = self.body(depth)
        self.locals = kept
        return text

    def tag(self, text):
        left, right = self.pick([("", ""), ("", ""), ("-", ""), ("", "-"), ("-", "-"), ("+", "")])
        return f"{{%{left} {text} {right}%}}"

    def blank(self):
        return self.pick(["", "", " ", "\n", "\n    ", "text ", "\n\n", "# {# note '{%' #}"])


# Statements.

@production("statement")
def prints(m, depth):
    left, right = m.pick([("", ""), ("-", ""), ("", "-"), ("-", "-")])
    return f"{m.blank()}{{{{{left} {m.some('any')} {right}}}}}{m.blank()}"


@production("statement")
def prints_text(m, depth):
    return f"{m.blank()}{{{{- {m.some('str')} + {m.quoted(m.pick(WORDS))} }}}}{m.blank()}"


@production("statement")
def if_else(m, depth):
    other = m.tag(f"elif {m.some('bool')}") + m.scoped(depth) if m.chance(0.3) else ""
    other += m.tag("else") + m.scoped(depth) if m.chance(0.6) else ""
    return m.tag(f"if {m.some('bool')}") + m.blank() + m.scoped(depth) + other + m.tag("endif")


@production("statement")
def for_loop(m, depth):
    name = m.fresh()
    over = m.some(m.pick(["list", "list", "dict", "str", "tuple"]))
    condition = f" if {name} is {m.pick(['defined', 'string', 'mapping', 'not none'])}" if m.chance(0.3) else ""
    m.locals["any"].append(name)
    inside = m.pick(["", "{{ loop.index }}/{{ loop.length }}", "{{ loop.first }}{{ loop.last }}", "{{ loop.revindex0 }}",
                     "{{ loop.previtem }}|{{ loop.nextitem }}", "{{ loop.cycle('a', 'b') }}", "{{ loop.depth }}",
                     "{% if loop.index0 == 1 %}{% continue %}{% endif %}", "{% if loop.index > 2 %}{% break %}{% endif %}",
                     "{{ loop.changed(" + name + ") }}", "{{ ', ' if not loop.last }}"])
    text = m.tag(f"for {name} in {over}{condition}") + m.blank() + inside + m.scoped(depth)
    m.locals["any"].remove(name)
    return text + (m.tag("else") + "none" if m.chance(0.3) else "") + m.tag("endfor")


@production("statement")
def for_messages(m, depth):
    content = m.pick(["message.content", "message['content']", "message.get('content')", "message.content | trim"])
    return (m.tag("for message in messages" + m.pick(["", "[1:]", "[::-1]", " if message.role != 'system'"]))
            + "{{ '<|' + message.role + '|>' }}" + "{%- if message.content is string %}{{ " + content + " }}"
            + "{%- elif message.content is iterable %}{% for part in message.content %}{{ part.text or part.type }}"
            + "{% endfor %}{% else %}{{ message.content }}{% endif %}"
            + "{% for call in message.tool_calls or [] %}{{ call.function.name }}{{ call.function.arguments | tojson }}"
            + "{% endfor %}" + m.scoped(depth) + m.tag("endfor"))


@production("statement")
def for_pairs(m, depth):
    over = m.some("dict")
    pairs = m.pick([".items()", "|items", "|dictsort"])
    return m.tag(f"for key, value in ({over}){pairs}") + "{{ key }}={{ value }}" + m.tag("endfor")


@production("statement")
def set_variable(m, depth):
    kind = m.pick(["str", "int", "list", "dict"])
    name = m.fresh()
    text = m.tag(f"set {name} = {m.some(kind)}")
    m.locals[kind].append(name)
    return text


@production("statement")
def set_several(m, depth):
    return m.tag(f"set p, q = {m.some('str')}, {m.some('int')}") + "{{ q }}{{ p }}"


@production("statement")
def set_block(m, depth):
    name = m.fresh()
    filtered = m.pick(["", "", " | upper", " | trim"])
    text = m.tag(f"set {name}{filtered}") + m.scoped(depth) + m.tag("endset")
    m.locals["str"].append(name)
    return text


@production("statement")
def uses_namespace(m, depth):
    return (m.tag(f"set ns = namespace(n={m.some('int')}, found=false, text='')")
            + m.tag(f"for x in {m.some('list')}")
            + "{% set ns.n = ns.n + 1 %}{% set ns.text = ns.text ~ x %}{% if loop.last %}{% set ns.found = true %}{% endif %}"
            + m.tag("endfor") + "{{ ns.n }}{{ ns.found }}{{ ns.text }}")


@production("statement")
def uses_macro(m, depth):
    name = m.fresh()
    extra = m.pick(["", "{{ varargs }}", "{{ kwargs }}", "{{ varargs|length }}{{ kwargs|tojson }}", "{{ caller is defined }}"])
    args = m.pick(["1", "'x', 2", "b=3", "1, b='y'", "*[1, 2]", "**{'b': 4}"])
    args += m.pick(["", ", 3, 4"] if "varargs" in extra and "=" not in args and "*" not in args and args == "'x', 2" else [""])
    args += m.pick(["", ", other=5"] if "kwargs" in extra else [""])
    kept, m.locals = m.locals, {kind: [] for kind in m.locals}
    body = m.scoped(depth)
    m.locals = kept
    return (m.tag(f"macro {name}(a, b={m.make('any', 0)})") + "[{{ a }}{{ b }}" + extra + "]" + body
            + m.tag("endmacro") + f"{{{{ {name}({args}) }}}}{{{{ {name}('z')|length }}}}")


@production("statement")
def recursive_macro(m, depth):
    return ("{% macro walk(v, n) -%}{% if v is mapping %}{% for k in v %}{{ k }}:{{ walk(v[k], n + 1) }};{% endfor %}"
            "{% elif v is iterable and v is not string %}[{% for x in v %}{{ walk(x, n + 1) }},{% endfor %}]"
            "{% else %}{{ v }}@{{ n }}{% endif %}{%- endmacro %}" + f"{{{{ walk({m.some('any')}, 0) }}}}")


@production("statement")
def call_block(m, depth):
    return ("{% macro wrap(t) %}<{{ t }}>{{ caller(t) }}</{{ t }}>{% endmacro %}"
            + m.tag(f"call(u) wrap({m.some('str')})") + "{{ u|length }}" + m.scoped(depth) + m.tag("endcall"))


@production("statement")
def generation(m, depth):
    return m.tag("generation") + m.scoped(depth) + m.tag("endgeneration")


@production("statement")
def filter_block(m, depth):
    return m.tag("filter " + m.pick(["upper", "trim", "indent(2)", "replace('a', 'b')"])) + m.scoped(depth) + m.tag("endfilter")


@production("statement")
def with_block(m, depth):
    name = m.fresh()
    head = m.tag(f"with {name} = {m.some('any')}")
    return head + f"{{{{ {name} }}}}" + m.scoped(depth) + m.tag("endwith")


@production("statement")
def raw_block(m, depth):
    return "{% raw %}{{ not this }}{% generation %}'{% endraw %}"


@production("statement")
def recursive_loop(m, depth):
    return ("{% for x in [[1, [2]], [], 3] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}"
            "{{ x }}.{{ loop.depth0 }}{% endif %}{% endfor %}")


@production("statement")
def cycler_and_joiner(m, depth):
    return ("{% set c = cycler('odd', 'even') %}{% set j = joiner('; ') %}" + m.tag(f"for x in {m.some('list')}")
            + "{{ j() }}{{ c.next() }}{{ c.current }}" + m.tag("endfor"))


@production("statement")
def may_raise(m, depth):
    return m.tag(f"if {m.some('bool')} and messages|length > 5") + "{{ raise_exception('too many') }}" + m.tag("endif")


@production("statement")
def slots_of_undefined(m, depth):
    return "{{ missing }}{{ missing|length }}{% for x in missing %}{{ x }}{% endfor %}{{ missing is iterable }}{{ missing or 'd' }}"


# Strings.

def method(name, *arguments):
    """Productions for `text.name(arguments)`."""
    for i, argument in enumerate(arguments or [""]):
        def call(m, depth, argument=argument):
            return f"({m.make('str', depth)}).{name}({argument})"
        call.__name__ = f"str_{name}_{i}"
        yield call


for kind, calls in {
    "str": [
        ("capitalize",), ("casefold",), ("center", "9", "8, '*'"), ("expandtabs", "4", ""), ("ljust", "7"),
        ("lower",), ("lstrip", "", "'a '"), ("removeprefix", "'a'"), ("removesuffix", "'c'"), ("rjust", "7, '0'"),
        ("replace", "'a', 'xyz'", "'', '-'", "'l', '', 1"), ("rstrip", "", "'\\n'"), ("strip", "", "' <>'"), ("swapcase",),
        ("title",), ("upper",), ("zfill", "6"), ("translate", "{97: 'A', 98: none}"), ("join", "['x', 'y']", "'pq'")],
    "list": [
        ("split", "", "' '", "','", "' ', 1", "none, 1", "sep='a'"), ("rsplit", "", "' ', 1", "','"),
        ("splitlines", "", "true")],
    "tuple": [("partition", "' '"), ("rpartition", "'l'")],
    "int": [("count", "'a'"), ("find", "'l'", "'a', 1"), ("rfind", "'l'"), ("index", "''")],
    "bool": [
        ("startswith", "'a'", "('a', '<')"), ("endswith", "'c'"), ("isdigit",), ("isalpha",), ("isalnum",), ("isspace",),
        ("isupper",), ("islower",), ("istitle",), ("isascii",), ("isnumeric",), ("isdecimal",), ("isidentifier",), ("isprintable",)],
}.items():
    for entry in calls:
        for function in method(*entry):
            production(kind)(function)


def filters(kind, of, *texts):
    for i, text in enumerate(texts):
        def apply(m, depth, text=text):
            return f"({m.make(of, depth)}){text}"
        apply.__name__ = f"{kind}_of_{of}_{text}"
        production(kind)(apply)


filters("str", "str", "|trim", "|trim('a ')", "|upper", "|lower", "|title", "|capitalize", "|replace('a', 'b')", "|center(12)",
        "|truncate(8)", "|truncate(8, true, '…', 0)", "|indent", "|indent(2, true)", "|indent(width=3, blank=true)", "|urlencode",
        "|striptags", "|escape|string|length|string", "|reverse", "|default('d')", "|string", "[1:]", "[:-1]", "[::-1]", "[1:6:2]",
        "|replace('l', 'L', 1)", "|first", "|last", " ~ ''", "|list|join('-')", "|wordcount|string", "|safe")
filters("str", "any", "|string", "|default('d', true)|string", " ~ ''", " is callable ~ ''", "|string|length|string")
filters("str", "list", "|join", "|join(', ')", "|join('|')|upper", "|tojson", "|tojson(indent=2)", "|tojson(separators=(',', ':'))", "|string",
        "|map('string')|join", "|first|string", "|last|string")
filters("str", "dict", "|tojson", "|tojson(indent=4)", "|tojson(sort_keys=true)", "|tojson(ensure_ascii=true)",
        "|tojson(indent=2, separators=(', ', ' : '), sort_keys=true)", "|string", "|tojson(ensure_ascii=False, indent=0)", "|urlencode",
        "|tojson(indent='\\t')", "|join(',')", "|list|join")
filters("str", "float", "|tojson", "|string", "|round(2)|string", "|filesizeformat")
filters("int", "any", "|string|length")
filters("int", "str", "|length", "|count", "|int", "|int(7)", "|int(default=5)", "|wordcount", "|int(base=16)")
filters("int", "list", "|length", "|map('string')|list|length", ".count(1)")
filters("int", "dict", "|length", ".keys()|list|length", ".items()|length")
filters("int", "int", "|abs", "|int", " + 3", " - 1", " * 2", " // 2", " % 3", "|float|int", " ** 2", " if true else 0", " // -2", " % -3")
filters("int", "bool", "|int")
filters("float", "float", "|abs", "|round", "|round(1)", "|round(1, 'ceil')", "|round(method='floor')", " * 2", " + 0.1", " - 1", " / 3", "|float",
        " // 1", " % 0.3")
filters("float", "int", " / 2", " / 3", "|float", " * 1.5", " * 0.1")
filters("float", "str", "|float", "|float(1.5)", "|float(default=2.0)")
filters("bool", "any", " is string", " is number", " is integer", " is float", " is boolean", " is none", " is not none", " is defined",
        " is undefined", " is mapping", " is sequence", " is iterable", " is true", " is false", " is callable", " is sameas none",
        " is string and true", " == none", " != missing", " == 1", " in [1, 'a', none]", " not in (true, 0.5)", " is eq('abc')", " is escaped",
        " is in ['', 0]", " == []", " == {}", " is ne(2)")
filters("bool", "str", " == 'abc'", " < 'b'", " in 'abcdef'", " is upper", " is lower", " is eq ''", " >= ''", " not in names", " in schema")
filters("bool", "int", " > 1", " <= 2", " is odd", " is even", " is divisibleby 3", " is divisibleby(2)", " == 1.0", " == true", " in numbers",
        " is gt(1)", " is le 3", " < 2.5")
filters("bool", "list", "|length > 1", " == names", " is sequence", "|first is defined", " != []", "|selectattr('role') is defined",
        "|select|list == []")
filters("bool", "dict", ".items() is iterable", ".a is defined", "['a'] is defined", ".items is callable", "|length == 0", ".get('a') is none",
        " == {'a': 1, 'B': 2}", ".items is defined", ".update is defined")
filters("list", "list", "|list", "[1:]", "[:-1]", "[::-1]", "[::2]", "|reverse|list", " + [1]", " + names", " * 2", "|unique|list", "|map('string')|list",
        "|select('string')|list", "|reject('none')|list", "|select|list", "|batch(2)|list", "|slice(2)|list", "|batch(2, 'f')|list", ".copy()",
        "|map('string')|sort", "|map('string')|map('upper')|list", "|map('string')|sort(reverse=true)", "|map('tojson')|list",
        "|select('equalto', 1)|list", "|map('default', 'd')|list", "|reject('in', [1])|list", "|map('string')|sort(case_sensitive=true)")
filters("list", "str", "|list", "|map('upper')|list", "|batch(3)|list")
filters("list", "dict", "|list", ".keys()|list", ".values()|list", ".items()|list", "|dictsort", "|items|list", "|dictsort(reverse=true)",
        "|dictsort(true)", "|sort", ".items()|map('first')|list", ".items()|map(attribute=0)|list")
filters("list", "tuple", "|list", "|map('string')|list")
filters("dict", "dict", ".copy()", " or {'z': 1}", "|default({})")
filters("tuple", "tuple", " + (1,)", "[1:]", " * 2")
filters("odd", "list", "[0]", "[-1]", "[99]", "|first", "|last")
filters("odd", "dict", ".a", "['a']", ".get('a')", ".get('missing', 'd')", "['missing']", ".items.x", ".keys()", ".values()", ".items()", ".missing", ".B",
        "|first", "|attr('a')")
filters("odd", "str", "[0]", "[-1]", "[99]", ".nothing", "['nothing']")
filters("odd", "any", "|default('d')", "|default(none)", "|d(0, true)", " or none", " and 'then'", " if false")


# What takes several, or has a form of its own.

@production("str")
def add_strings(m, depth):
    return f"({m.make('str', depth)} + {m.make('str', depth)})"


@production("str")
def concat(m, depth):
    return f"({m.make('any', depth)} ~ {m.make('any', depth)} ~ {m.make('str', depth)})"


@production("str")
def repeat(m, depth):
    return f"({m.make('str', depth)} * {m.pick(['0', '2', '-1', 'true'])})"


@production("str")
def inline_if(m, depth):
    return f"({m.make('str', depth)} if {m.make('bool', depth)} else {m.make('str', depth)})"


@production("str")
def percent(m, depth):
    form, kinds = m.pick([("%s", ["any"]), ("%s: %s", ["str", "any"]), ("%d%%", ["int"]), ("%5.1f|", ["float"]), ("%r", ["any"]), ("%-9s|", ["str"]),
                          ("%05d", ["int"]), ("%x", ["int"]), ("%e", ["float"]), ("%g", ["float"]), ("%+d", ["int"]), ("%.2s", ["str"])])
    values = ", ".join(m.make(kind, depth) for kind in kinds)
    return f"('{form}' % ({values},))"


@production("str")
def percent_names(m, depth):
    return f"('%(a)s and %(b)s' % {{'a': {m.make('any', depth)}, 'b': {m.make('str', depth)}}})"


@production("str")
def format_filter(m, depth):
    return f"('%s = %s'|format({m.make('str', depth)}, {m.make('any', depth)}))"


@production("str")
def braces(m, depth):
    form, arguments = m.pick([("{} {}", "{0}, {1}"), ("{1}{0}", "{0}, {1}"), ("{a}:{b}", "a={0}, b={1}"), ("{!r} {}", "{0}, {1}"), ("{{}}{}", "{0}")])
    return f"'{form}'.format({arguments.format(m.make('str', depth), m.make('any', depth))})"


@production("str")
def braces_with_width(m, depth):
    form, kind = m.pick([("{:>8}|", "str"), ("{:<5}|", "int"), ("{:^7}|", "str"), ("{:.2f}", "float"), ("{:05d}", "int"), ("{:,}", "int")])
    return f"'{form}'.format({m.make(kind, depth)})"


@production("str")
def tojson_of_anything(m, depth):
    return f"([{m.make('str', depth)}, {m.make('float', depth)}, {{'k': {m.make('list', depth)}}}]|tojson)"


@production("int")
def arithmetic(m, depth):
    return f"({m.make('int', depth)} {m.pick(['+', '-', '*'])} {m.make('int', depth)})"


@production("int")
def sums(m, depth):
    return m.pick(["(numbers|map('int')|sum)", "(numbers|max|int)", "(numbers|min|int)", "(messages|map(attribute='role')|list|length)",
                   "([{'n': 1}, {'n': 2}]|sum(attribute='n'))", "(names|map('length')|sum(start=5))", "names.index('Zed')"])


@production("bool")
def logic(m, depth):
    return f"({m.make('bool', depth)} {m.pick(['and', 'or'])} {m.make('bool', depth)})"


@production("bool")
def negation(m, depth):
    return f"(not {m.make('bool', depth)})"


@production("bool")
def chained(m, depth):
    return f"({m.make('int', depth)} < {m.make('int', depth)} <= {m.make('int', depth)})"


@production("bool")
def equality(m, depth):
    return f"({m.make('any', depth)} {m.pick(['==', '!='])} {m.make('any', depth)})"


@production("bool")
def truth(m, depth):
    return m.make("any", depth)


@production("bool")
def guarded_tools(m, depth):
    return "(tools is iterable and tools|length > 0)"


@production("list")
def list_literal(m, depth):
    return "[" + ", ".join(m.make("any", depth) for _ in range(m.dice.randint(0, 3))) + "]"


@production("list")
def ranges(m, depth):
    return m.pick(["(range(3)|list)", "(range(1, 9, 3)|list)", "(range(5, 0, -2)|list)", "range(4)", "range(2, 4)"])


@production("list")
def of_messages(m, depth):
    return m.pick(["(messages|map(attribute='role')|list)", "(messages|selectattr('role', 'equalto', 'user')|list)",
                   "(messages|rejectattr('role', 'in', ['system'])|list)", "(messages|selectattr('tool_calls')|map(attribute='role')|list)",
                   "(messages|selectattr('content', 'string')|list)", "(messages|map(attribute='name', default='-')|list)",
                   "(messages|groupby('role')|map('first')|list)", "(messages|groupby('role')|map(attribute='grouper')|list)",
                   "(messages|sort(attribute='role')|map(attribute='role')|list)", "(messages|unique(attribute='role')|map(attribute='role')|list)",
                   "(messages|map('length')|list)", "(messages|map(attribute='content.0.type')|list)"])


@production("dict")
def dict_literal(m, depth):
    pairs = (f"{m.quoted(m.pick(NAMES))}: {m.make('any', depth)}" for _ in range(m.dice.randint(0, 3)))
    return "{" + ", ".join(pairs) + "}"


@production("dict")
def dict_call(m, depth):
    return f"dict(a={m.make('any', depth)}, **{{'B': {m.make('str', depth)}}})"


@production("dict")
def from_context(m, depth):
    return m.pick(["(tools[0].function.parameters if tools else {})", "(messages|last)", "schema.properties", "messages[-1]", "messages[0]"])


@production("odd")
def inline_if_without_else(m, depth):
    return f"({m.make('any', depth)} if {m.make('bool', depth)})"


@production("tuple")
def tuple_literal(m, depth):
    return f"({m.make('any', depth)}, {m.make('any', depth)})"


@production("odd")
def lazy_and_true(m, depth):
    return f"('lazy' if ({m.make('list', depth)}|select('mapping')) else 'empty')"


def value(dice, depth):
    """A value as a client may send it."""
    kinds = 9 if depth > 0 else 7
    match dice.randrange(kinds):
        case 0: return None
        case 1: return dice.choice([True, False])
        case 2: return dice.choice([0, 1, -5, 42, 2**53, 123456789012])
        case 3: return dice.choice([0.0, 0.7, 1e20, 1e-7, 1 / 3, 3.0, -2.5, 1e16])
        case 4 | 5 | 6: return dice.choice(WORDS)
        case 7: return [value(dice, depth - 1) for _ in range(dice.randrange(4))]
        case _: return {dice.choice(NAMES): value(dice, depth - 1) for _ in range(dice.randrange(4))}


def conversation(dice):
    """What a template is given: messages, tools with schemas, and values of all sorts."""
    messages = []
    if dice.random() < 0.5:
        messages.append({"role": "system", "content": dice.choice(WORDS)})
    for _ in range(dice.randint(1, 3)):
        parts = [{"type": "text", "text": dice.choice(WORDS)}, {"type": "image"}]
        messages.append({"role": "user", "content": dice.choice([dice.choice(WORDS), dice.choice(WORDS), parts])})
        if dice.random() < 0.7:
            answer = {"role": "assistant", "content": dice.choice([dice.choice(WORDS), None])}
            if dice.random() < 0.5:
                arguments = {dice.choice(NAMES): value(dice, 2) for _ in range(2)}
                call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
                answer["tool_calls"] = [call]
                messages += [answer, {"role": "tool", "content": dice.choice(WORDS), "name": "look_up"}]
            else:
                messages.append(answer)
    properties = {"city": {"type": "string", "description": "Größe"}, "items": {"type": ["integer", "null"], "enum": [1, None]}}
    schema = {"type": "object", "properties": properties, "required": ["city"], "default": value(dice, 2)}
    tool = {"type": "function", "function": {"name": "look_up", "description": None, "parameters": schema}}
    return {"messages": messages, "tools": dice.choice([None, [], [tool], [tool, tool]]), "documents": None,
            "add_generation_prompt": dice.random() < 0.5, "bos_token": "<s>", "role": "user", "flag": dice.choice([True, False]),
            "temperature": dice.choice([0.0, 0.7, 1e-7]), "names": ["Ada", "Zed", "ähm", ""], "numbers": [3, 1, 2.5],
            "schema": schema}


def template(seed):
    """The template of a seed, two contexts for it, and the names of the productions in it."""
    maker = Maker(seed)
    contexts = [conversation(maker.dice), conversation(maker.dice)]
    text = "".join(maker.make("statement", maker.dice.randint(1, 3)) for _ in range(maker.dice.randint(1, 4)))
    return text, contexts, maker.used
