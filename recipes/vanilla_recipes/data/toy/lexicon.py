"""The vocabulary of the English-German corpus, as tables.

Every English entry has one German counterpart, and no English form belongs to two entries. So every sentence has
exactly one translation.
"""

from typing import NamedTuple

PERSON, ANIMAL, THING = "person", "animal", "thing"


class Noun(NamedTuple):
    """A noun in both languages; `oblique` is the accusative and dative singular of German weak nouns, else ""."""

    english: str
    english_plural: str
    gender: str
    german: str
    german_plural: str
    kind: str
    oblique: str = ""


class Adjective(NamedTuple):
    """An adjective: `german` is the predicative form, `stem` the form before endings, `kinds` the kinds of nouns that
    it can describe."""

    english: str
    german: str
    kinds: tuple[str, ...]
    stem: str


class Verb(NamedTuple):
    """A verb by its principal parts.

    English: base, third person, past, participle, and a `tail` such as "for" or "up" (`phrasal` when the tail is a
    particle, which a pronoun could not follow). German: infinitive, third person, preterite, participle, the separable
    `particle`, the `case` of the single object, and "sein" or "haben" for the perfect.
    """

    base: str
    third: str
    past: str
    participle: str
    infinitive: str
    german_third: str
    preterite: str
    german_participle: str
    tail: str = ""
    phrasal: bool = False
    particle: str = ""
    case: str = "acc"
    auxiliary: str = "haben"
    takes_place: bool = True


class Pronoun(NamedTuple):
    """A personal pronoun: English subject and object, German nominative, accusative and dative."""

    english: str
    english_object: str
    nom: str
    acc: str
    dat: str
    plural: bool


class Adverbial(NamedTuple):
    """An adverb or a prepositional phrase that stands first or last in English."""

    english: str
    german: str


ANIMATES = (
    Noun("man", "men", "m", "Mann", "Männer", PERSON),
    Noun("woman", "women", "f", "Frau", "Frauen", PERSON),
    Noun("child", "children", "n", "Kind", "Kinder", PERSON),
    Noun("girl", "girls", "n", "Mädchen", "Mädchen", PERSON),
    Noun("boy", "boys", "m", "Junge", "Jungen", PERSON, "Jungen"),
    Noun("teacher", "teachers", "m", "Lehrer", "Lehrer", PERSON),
    Noun("doctor", "doctors", "m", "Arzt", "Ärzte", PERSON),
    Noun("farmer", "farmers", "m", "Bauer", "Bauern", PERSON, "Bauern"),
    Noun("king", "kings", "m", "König", "Könige", PERSON),
    Noun("queen", "queens", "f", "Königin", "Königinnen", PERSON),
    Noun("aunt", "aunts", "f", "Tante", "Tanten", PERSON),
    Noun("guest", "guests", "m", "Gast", "Gäste", PERSON),
    Noun("dog", "dogs", "m", "Hund", "Hunde", ANIMAL),
    Noun("cat", "cats", "f", "Katze", "Katzen", ANIMAL),
    Noun("horse", "horses", "n", "Pferd", "Pferde", ANIMAL),
    Noun("bird", "birds", "m", "Vogel", "Vögel", ANIMAL),
    Noun("cow", "cows", "f", "Kuh", "Kühe", ANIMAL),
    Noun("pig", "pigs", "n", "Schwein", "Schweine", ANIMAL),
    Noun("mouse", "mice", "f", "Maus", "Mäuse", ANIMAL),
    Noun("duck", "ducks", "f", "Ente", "Enten", ANIMAL),
    Noun("bear", "bears", "m", "Bär", "Bären", ANIMAL, "Bären"),
    Noun("goat", "goats", "f", "Ziege", "Ziegen", ANIMAL),
)

OPENABLES = (
    Noun("door", "doors", "f", "Tür", "Türen", THING),
    Noun("window", "windows", "n", "Fenster", "Fenster", THING),
    Noun("gate", "gates", "n", "Tor", "Tore", THING),
)

# Nouns for things that can be both opened and carried.
CONTAINERS = (
    Noun("box", "boxes", "f", "Kiste", "Kisten", THING),
    Noun("bottle", "bottles", "f", "Flasche", "Flaschen", THING),
)

MOVABLES = (
    *CONTAINERS,
    Noun("book", "books", "n", "Buch", "Bücher", THING),
    Noun("picture", "pictures", "n", "Bild", "Bilder", THING),
    Noun("cup", "cups", "f", "Tasse", "Tassen", THING),
    Noun("key", "keys", "m", "Schlüssel", "Schlüssel", THING),
    Noun("basket", "baskets", "m", "Korb", "Körbe", THING),
    Noun("ball", "balls", "m", "Ball", "Bälle", THING),
    Noun("hat", "hats", "m", "Hut", "Hüte", THING),
    Noun("coat", "coats", "m", "Mantel", "Mäntel", THING),
    Noun("lamp", "lamps", "f", "Lampe", "Lampen", THING),
    Noun("chair", "chairs", "m", "Stuhl", "Stühle", THING),
    Noun("table", "tables", "m", "Tisch", "Tische", THING),
    Noun("clock", "clocks", "f", "Uhr", "Uhren", THING),
    Noun("knife", "knives", "n", "Messer", "Messer", THING),
)

# Noun -> the possible first parts of its compounds, in English and in German.
_GARDEN, _KITCHEN, _CELLAR = ("garden", "Garten"), ("kitchen", "Küchen"), ("cellar", "Keller")
COMPOUNDS: dict[str, tuple[tuple[str, str], ...]] = {
    "door": (_GARDEN, _KITCHEN, _CELLAR),
    "window": (_KITCHEN, _CELLAR),
    "gate": (_GARDEN, ("school", "Schul")),
    "chair": (_GARDEN, _KITCHEN),
    "table": (_GARDEN, _KITCHEN),
    "lamp": (_GARDEN, _KITCHEN),
    "clock": (_KITCHEN,),
    "knife": (_KITCHEN,),
    "key": (_CELLAR,),
    "book": (("school", "Schul"),),
    "coat": (("winter", "Winter"),),
    "hat": (("summer", "Sommer"),),
}


def _adjective(english: str, german: str, *kinds: str) -> Adjective:
    return Adjective(english, german, kinds, german.removesuffix("e"))


ADJECTIVES = (
    _adjective("old", "alt", PERSON, ANIMAL, THING),
    _adjective("small", "klein", PERSON, ANIMAL, THING),
    _adjective("big", "groß", PERSON, ANIMAL, THING),
    _adjective("beautiful", "schön", PERSON, ANIMAL, THING),
    _adjective("young", "jung", PERSON, ANIMAL),
    _adjective("tired", "müde", PERSON, ANIMAL),
    _adjective("hungry", "hungrig", PERSON, ANIMAL),
    _adjective("sad", "traurig", PERSON, ANIMAL),
    _adjective("happy", "glücklich", PERSON, ANIMAL),
    _adjective("clever", "klug", PERSON, ANIMAL),
    _adjective("brave", "mutig", PERSON, ANIMAL),
    _adjective("strong", "stark", PERSON, ANIMAL),
    _adjective("white", "weiß", ANIMAL, THING),
    _adjective("black", "schwarz", ANIMAL, THING),
    _adjective("red", "rot", THING),
    _adjective("green", "grün", THING),
    _adjective("new", "neu", THING),
    _adjective("heavy", "schwer", THING),
    _adjective("dirty", "schmutzig", THING),
)
# Adjectives for a state that can be a reason ("because he was tired").
STATES = tuple(
    adjective
    for adjective in ADJECTIVES
    if adjective.english in ("tired", "hungry", "sad", "happy", "clever", "brave", "strong")
)
THING_STATES = tuple(
    adjective
    for adjective in ADJECTIVES
    if adjective.english in ("old", "small", "big", "beautiful", "new", "heavy", "dirty")
)
COLOURS = frozenset({"white", "black", "red", "green"})


def _verb(english: str, german: str, **options: str | bool) -> Verb:
    return Verb(*english.split(), *german.split(), **options)  # type: ignore[arg-type]


# Verbs with two animate participants, either of which can be the subject.
SYMMETRIC_VERBS = (
    _verb("see sees saw seen", "sehen sieht sah gesehen"),
    _verb("hear hears heard heard", "hören hört hörte gehört"),
    _verb("find finds found found", "finden findet fand gefunden"),
    _verb("look looks looked looked", "suchen sucht suchte gesucht", tail="for"),
    _verb("greet greets greeted greeted", "grüßen grüßt grüßte gegrüßt"),
    _verb("visit visits visited visited", "besuchen besucht besuchte besucht"),
    _verb("chase chases chased chased", "jagen jagt jagte gejagt", takes_place=False),
    _verb("bite bites bit bitten", "beißen beißt biss gebissen"),
    _verb("save saves saved saved", "retten rettet rettete gerettet"),
    _verb("carry carries carried carried", "tragen trägt trug getragen", takes_place=False),
    _verb("help helps helped helped", "helfen hilft half geholfen", case="dat"),
    _verb(
        "follow follows followed followed",
        "folgen folgt folgte gefolgt",
        case="dat",
        auxiliary="sein",
        takes_place=False,
    ),
    _verb("thank thanks thanked thanked", "danken dankt dankte gedankt", case="dat"),
    _verb("listen listens listened listened", "hören hört hörte zugehört", tail="to", particle="zu", case="dat"),
    _verb("wake wakes woke woken", "wecken weckt weckte aufgeweckt", tail="up", phrasal=True, particle="auf"),
    _verb("invite invites invited invited", "laden lädt lud eingeladen", particle="ein", takes_place=False),
    _verb("stop stops stopped stopped", "halten hält hielt aufgehalten", particle="auf"),
)

OPENING_VERBS = (
    _verb("open opens opened opened", "machen macht machte aufgemacht", particle="auf", takes_place=False),
    _verb("close closes closed closed", "machen macht machte zugemacht", particle="zu", takes_place=False),
)

MOVING_VERBS = (
    _verb("buy buys bought bought", "kaufen kauft kaufte gekauft"),
    _verb("sell sells sold sold", "verkaufen verkauft verkaufte verkauft"),
    _verb("hide hides hid hidden", "verstecken versteckt versteckte versteckt"),
    _verb("forget forgets forgot forgotten", "vergessen vergisst vergaß vergessen"),
    _verb("throw throws threw thrown", "werfen wirft warf weggeworfen", tail="away", phrasal=True, particle="weg"),
    _verb(
        "bring brings brought brought", "bringen bringt brachte zurückgebracht",
        tail="back", phrasal=True, particle="zurück", takes_place=False,
    ),
)  # fmt: skip

# Verbs with a recipient (dative) before the object (accusative).
GIVING_VERBS = (
    _verb("give gives gave given", "geben gibt gab gegeben"),
    _verb("show shows showed shown", "zeigen zeigt zeigte gezeigt"),
    _verb("send sends sent sent", "schicken schickt schickte geschickt", takes_place=False),
)

INTRANSITIVE_VERBS = (
    _verb("sleep sleeps slept slept", "schlafen schläft schlief geschlafen"),
    _verb("laugh laughs laughed laughed", "lachen lacht lachte gelacht"),
    _verb("sing sings sang sung", "singen singt sang gesungen"),
    _verb(
        "get gets got got", "stehen steht stand aufgestanden",
        tail="up", particle="auf", auxiliary="sein", takes_place=False,
    ),
    _verb(
        "come comes came come", "kommen kommt kam zurückgekommen",
        tail="back", particle="zurück", auxiliary="sein", takes_place=False,
    ),
)  # fmt: skip

# Verbs whose object is a "that" clause.
THAT_VERBS = (
    _verb("know knows knew known", "wissen weiß wusste gewusst"),
    _verb("think thinks thought thought", "glauben glaubt glaubte geglaubt"),
    _verb("hope hopes hoped hoped", "hoffen hofft hoffte gehofft"),
    _verb("say says said said", "sagen sagt sagte gesagt"),
)

HE = Pronoun("he", "him", "er", "ihn", "ihm", False)
SHE = Pronoun("she", "her", "sie", "sie", "ihr", False)
WE = Pronoun("we", "us", "wir", "uns", "uns", True)
THEY = Pronoun("they", "them", "sie", "sie", "ihnen", True)
PRONOUNS = (HE, SHE, WE, THEY)
# German translates "it" with a pronoun of the gender of the noun that it refers to.
IT = {
    "m": Pronoun("it", "it", "er", "ihn", "ihm", False),
    "f": Pronoun("it", "it", "sie", "sie", "ihr", False),
    "n": Pronoun("it", "it", "es", "es", "ihm", False),
}

PLACES = (
    Adverbial("in the garden", "im Garten"),
    Adverbial("in the kitchen", "in der Küche"),
    Adverbial("in the forest", "im Wald"),
    Adverbial("at the station", "am Bahnhof"),
    Adverbial("on the bridge", "auf der Brücke"),
    Adverbial("behind the house", "hinter dem Haus"),
)

TODAY = Adverbial("today", "heute")
HABITS = (Adverbial("every day", "jeden Tag"), Adverbial("every morning", "jeden Morgen"))
PAST_TIMES = (
    Adverbial("yesterday", "gestern"),
    Adverbial("last week", "letzte Woche"),
    Adverbial("two days ago", "vor zwei Tagen"),
)
FUTURE_TIMES = (TODAY, Adverbial("tomorrow", "morgen"), Adverbial("next week", "nächste Woche"))

NEVER, OFTEN = Adverbial("never", "nie"), Adverbial("often", "oft")
ALWAYS, ALREADY = Adverbial("always", "immer"), Adverbial("already", "schon")
