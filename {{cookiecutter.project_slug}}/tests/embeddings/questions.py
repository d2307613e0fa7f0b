"""Questions in a user's words, and the entries of the standard library that answer each.

The corpus is the docstrings of the Python that runs: real documentation, there on every machine.
"""

import importlib
import inspect
from collections.abc import Iterator

MODULES = """
argparse array ast asyncio base64 bisect calendar cmath codecs collections concurrent.futures
configparser contextlib copy csv dataclasses datetime decimal difflib email.message enum
fileinput filecmp fnmatch fractions functools getpass glob gzip hashlib heapq hmac html
http.client http.server imaplib inspect io ipaddress itertools json locale logging lzma math
mimetypes multiprocessing operator os os.path pathlib pickle platform pprint queue random re
sched secrets select selectors shelve shlex shutil signal smtplib socket sqlite3 ssl stat
statistics string struct subprocess sys tarfile tempfile textwrap threading time timeit tokenize
traceback tracemalloc types unicodedata unittest urllib.parse urllib.request uuid warnings
weakref xml.etree.ElementTree zipfile zlib zoneinfo
"""

SHORTEST, LONGEST = 16, 1600
"""Characters of a docstring; a longer one is cut, as passages are."""

ANSWERS = {
    "How do I turn an object into a JSON string?": ["json.dumps"],
    "parse a JSON document held in a string": ["json.loads"],
    "remove a directory and everything in it": ["shutil.rmtree"],
    "copy a whole folder recursively": ["shutil.copytree"],
    "How much free disk space is left?": ["shutil.disk_usage"],
    "find the path of an executable program": ["shutil.which"],
    "wait for several coroutines and collect their results": ["asyncio.gather"],
    "run blocking code in a separate thread from async code": ["asyncio.to_thread"],
    "cancel a task when it takes too long": ["asyncio.timeout", "asyncio.wait_for"],
    "protect a coroutine from being cancelled": ["asyncio.shield"],
    "limit how many tasks enter a section at the same time": [
        "asyncio.Semaphore",
        "threading.Semaphore",
        "asyncio.BoundedSemaphore",
        "threading.BoundedSemaphore",
    ],
    "remember results of a function so that it is not computed twice": [
        "functools.lru_cache",
        "functools.cache",
    ],
    "fix some arguments of a function in advance": ["functools.partial"],
    "count how often each element occurs": ["collections.Counter"],
    "dictionary that creates missing values by itself": ["collections.defaultdict"],
    "double ended queue with fast appends on both sides": ["collections.deque"],
    "keep a list sorted while inserting": [
        "bisect.insort_right",
        "bisect.insort",
        "bisect.insort_left",
        "bisect",
    ],
    "smallest n items of a sequence": ["heapq.nsmallest"],
    "middle value of the data": ["statistics.median"],
    "standard deviation of a sample": ["statistics.stdev"],
    "secure random token for a URL": ["secrets.token_urlsafe"],
    "compare two digests without leaking timing": ["hmac.compare_digest", "secrets.compare_digest"],
    "shuffle a list in place": ["random.shuffle", "random.Random.shuffle"],
    "pick k different elements at random": ["random.sample", "random.Random.sample"],
    "indent every line of a text": ["textwrap.indent"],
    "remove common leading whitespace": ["textwrap.dedent"],
    "break long paragraphs into lines of a given width": ["textwrap.wrap", "textwrap.fill"],
    "split a command line like the shell does": ["shlex.split"],
    "quote an argument so that it is safe in a shell": ["shlex.quote"],
    "start a program and capture its output": [
        "subprocess.run",
        "subprocess.check_output",
        "subprocess.getoutput",
    ],
    "temporary directory that deletes itself": ["tempfile.TemporaryDirectory"],
    "take a URL apart into scheme, host and path": [
        "urllib.parse.urlparse",
        "urllib.parse.urlsplit",
    ],
    "percent encode special characters": ["urllib.parse.quote", "urllib.parse.quote_plus"],
    "escape angle brackets and ampersands for HTML": ["html.escape"],
    "guess the media type from the file name": [
        "mimetypes.guess_type",
        "mimetypes.guess_file_type",
    ],
    "is this IP address private": [
        "ipaddress.IPv4Address",
        "ipaddress.ip_address",
        "ipaddress.IPv6Address",
    ],
    "all permutations of the elements": ["itertools.permutations"],
    "cartesian product of several lists": ["itertools.product"],
    "running totals": ["itertools.accumulate"],
    "group consecutive items that have the same key": ["itertools.groupby"],
    "pack values into binary data": ["struct.pack"],
    "greatest common divisor": ["math.gcd"],
    "guess the dialect of a CSV sample": ["csv.Sniffer.sniff", "csv.Sniffer"],
    "find files matching a wildcard pattern": ["glob.glob", "glob.iglob", "glob"],
    "similar words for a misspelled one": ["difflib.get_close_matches"],
    "ignore certain exceptions in a block": ["contextlib.suppress"],
    "print the traceback of an exception": ["traceback.print_exc", "traceback.print_exception"],
    "ask for a password without showing it": ["getpass.getpass", "getpass"],
    "decompress gzip data": ["gzip.decompress"],
    "extract all members of a zip archive": ["zipfile.ZipFile.extractall"],
}


def documentation() -> dict[str, str]:
    """Return the docstring of each public module, class, method and function by its name."""
    found = {}
    for name, thing in _public():
        docstring = thing.__doc__ if inspect.ismodule(thing) else inspect.getdoc(thing)
        if docstring and len(docstring) >= SHORTEST:
            found[name] = f"{name}\n\n{docstring[:LONGEST]}"
    return found


def _public() -> Iterator[tuple[str, object]]:
    for module_name in MODULES.split():
        module = importlib.import_module(module_name)
        yield module_name, module
        for name, thing in _members(module):
            yield f"{module_name}.{name}", thing
            if inspect.isclass(thing) and thing.__module__.strip("_") == module_name:
                yield from ((f"{module_name}.{name}.{part}", it) for part, it in _members(thing))


def _members(owner: object) -> list[tuple[str, object]]:
    return [
        (name, thing)
        for name, thing in vars(owner).items()
        if not name.startswith("_") and (inspect.isclass(thing) or inspect.isroutine(thing))
    ]
