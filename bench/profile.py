"""Sums samples of perf up: for each work that the benchmark marked, the parts of Concord, of the source's server and of the
target's, each by function. A server's sessions are told apart by whose children they are. Reads perf's script from standard input."""

import collections
import re
import sys

FORK = re.compile(r"PERF_RECORD_FORK\((\d+):\d+\):\((\d+):\d+\)")
SAMPLE = re.compile(r"^\s*(?P<comm>.+?)\s+(?P<pid>\d+)/(?P<tid>\d+)\s+(?P<time>[\d.]+):\s+\S*cpu-clock\S*\s+[0-9a-f]+\s+(?P<symbol>.*) \((?P<dso>[^()]*)\)\s*$")


# Names of generic functions take pages.
SYMBOL_MAX = 120


def main() -> None:
    marks = [line.rstrip("\n").split("\t") for line in open(sys.argv[1], encoding="utf-8")]
    top = int(sys.argv[2])
    parents: dict[int, int] = {}
    samples: list[tuple[float, int, str, str]] = []
    for line in sys.stdin:
        if fork := FORK.search(line):
            child, parent = int(fork[1]), int(fork[2])
            if child != parent:
                parents.setdefault(child, parent)
        elif found := SAMPLE.match(line):
            where = found["dso"].rsplit("/", 1)[-1]
            where = "kernel" if where.startswith("[kernel") or where.startswith("[guest") else where
            symbol = re.sub(r"\+0x[0-9a-f]+$", "", found["symbol"])[:SYMBOL_MAX]
            samples.append((float(found["time"]), int(found["pid"]), found["comm"], f"{where}: {symbol}"))
    if not samples:
        sys.exit("profile: perf has sampled nothing")
    for work, begin, end, *roots in marks:
        known = {int(pid): name for name, pid in zip(("Concord", "source's server", "target's server"), roots) if pid}
        within = [sample for sample in samples if float(begin) <= sample[0] <= float(end)]
        print(f"\n## {work}: {float(end) - float(begin):.2f} s\n")
        tell(within, known, parents, top)


def owner(pid: int, known: dict[int, str], parents: dict[int, int], comm: str) -> str:
    for _ in range(32):
        if pid in known:
            return known[pid]
        if pid not in parents:
            break
        pid = parents[pid]
    return "nobody" if comm.startswith("swapper") else "others"


def tell(samples, known, parents, top: int) -> None:
    by_owner: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for _, pid, comm, function in samples:
        by_owner[owner(pid, known, parents, comm)][function] += 1
    by_owner.pop("nobody", None)
    every = sum(sum(functions.values()) for functions in by_owner.values())
    print("| process | part of all samples |\n|---|---|")
    for name, functions in sorted(by_owner.items(), key=lambda one: -sum(one[1].values())):
        print(f"| {name} | {100 * sum(functions.values()) / max(every, 1):.1f} % |")
    for name in ("Concord", "source's server", "target's server"):
        own = by_owner.get(name)
        if not own:
            continue
        own_all = sum(own.values())
        kernel = sum(count for function, count in own.items() if function.startswith("kernel:"))
        print(f"\n| {name}: function | part of its samples |\n|---|---|")
        print(f"| all that the kernel does for it | {100 * kernel / own_all:.1f} % |")
        for function, count in [one for one in own.most_common() if not one[0].startswith("kernel:")][:top]:
            print(f"| `{function}` | {100 * count / own_all:.1f} % |")


main()
