"""The import law, as one macro: a room says in its BUILD file what it may import, once."""


def room(*may_import, third_party=(), loads=None):
    """Declare a folder of sources and what it may import; `./pants lint ::` refuses the rest.

    may_import: rooms of fraudstream, by name, besides the room itself.
    third_party: homes of requirements (3rdparty/python), besides "base", which is for everyone.
    loads: by file, addresses of what it needs at run time and never imports by name.
    """
    python_sources(  # noqa: F821
        name="sources",
        overrides={file: {"dependencies": needs} for file, needs in (loads or {}).items()},
    )
    __dependencies_rules__(  # noqa: F821
        (
            {"type": python_sources},  # noqa: F821
            "./**",
            "//src/python/fraudstream/__init__.py",
            "//src/schemas/**",
            *[f"//src/python/fraudstream/{name}/**" for name in may_import],
            *[f"//3rdparty/python/{home}#*" for home in ("base", *third_party)],
            "!*",
        ),
        ("*", "*"),
    )
