"""Java, Spark, and jars from Ivy: what programs of the JVM are started with."""

from collections.abc import Sequence
from importlib.util import find_spec
import os
from pathlib import Path
import shutil

from fraudstream.stack.cache import made_once
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import run_to_end

_IVY_FILE = """\
<ivy-module version="2.0">
  <info organisation="fraudstream" module="{name}"/>
  <dependencies>
{dependencies}
  </dependencies>
</ivy-module>
"""


def spark_home() -> Path:
    """Return the folder of the installed ``pyspark`` package, which is a whole Spark.

    Raises
    ------
    ProcessFailed
        If pyspark is not installed.
    """
    found = find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise ProcessFailed("pyspark is not installed: it carries Spark, and Ivy to resolve jars")
    return Path(next(iter(found.submodule_search_locations)))


#: Leaves out Java's second compiler. It makes better code of what has run for a while, and competes
#: for the processors for minutes: too long for what is started to be shown, or to be tested.
FAST_COMPILER = "-XX:TieredStopAtLevel=1"


def java() -> str:
    """Return the Java launcher: that of ``JAVA_HOME`` if set, else the one on ``PATH``.

    Raises
    ------
    ProcessFailed
        If there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if found is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH, and JAVA_HOME is not set"
        raise ProcessFailed(
            f"no java {where}: install Java 17 or 21 "
            "(Debian: apt-get install openjdk-17-jdk-headless)"
        )
    return found


def resolve_jars(cache: Path, name: str, modules: Sequence[str]) -> Path:
    """Return the folder `name` in `cache`, of jars with all that they need, resolved once.

    The jars come from Ivy's default resolver, through the Ivy that Spark ships.

    Parameters
    ----------
    cache, name
        See `fraudstream.stack.cache.made_once`.
    modules
        What to resolve, as ``organisation:module:version``.

    Raises
    ------
    ProcessFailed
        If Ivy fails; the end of what it said is told.
    """

    def resolve(scratch: Path) -> Path:
        ivy = next(iter((spark_home() / "jars").glob("ivy-*.jar")), None)
        if ivy is None:
            raise ProcessFailed(f"there is no ivy-*.jar in {spark_home() / 'jars'}")
        (scratch / "ivy.xml").write_text(_ivy_file(name, modules))
        run_to_end(
            f"resolving {name}",
            [
                *(java(), "-jar", str(ivy), "-cache", str(scratch / "ivy")),
                *("-ivy", str(scratch / "ivy.xml"), "-confs", "default"),
                *("-retrieve", str(scratch / "jars" / "[artifact]-[revision].[ext]")),
            ],
            scratch / "log",
        )
        return scratch / "jars"

    return made_once(cache, name, resolve)


def _ivy_file(name: str, modules: Sequence[str]) -> str:
    parts = [module.split(":") for module in modules]
    dependencies = [
        f'    <dependency org="{org}" name="{module}" rev="{rev}" conf="default"/>'
        for org, module, rev in parts
    ]
    return _IVY_FILE.format(name=name, dependencies="\n".join(dependencies))
