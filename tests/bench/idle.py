"""What the supervisor costs while all serve and nobody asks: memory and CPU of its process alone,
with the config's own defaults for every period.

    .tandem/peer/bin/python tests/bench/idle.py [--seconds 60]
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))
os.environ.setdefault("TANDEM_BIN", str(ROOT / "target/release/tandem"))
os.environ.setdefault("TANDEM_MODEL", str(ROOT / ".tandem/models/smollm2-135m-instruct"))
import supervised  # noqa: E402

TARGET_RSS_MB, TARGET_CPU_PERCENT = 20, 0.2


def cpu_s(pid):
    """User and system time of all threads: schedstat counts nanoseconds where ticks are 10 ms."""
    total_ns = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total_ns / 1e9


def kib(pid, file, name):
    for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise SystemExit(f"no {name} in /proc/{pid}/{file}")


def by_thread(pid):
    """Seconds of CPU by the name of the thread."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            found[f"{name}/{task.name}"] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--seconds", type=float, default=60)
    options = options.parse_args()
    # The periods of the tests are short; what is measured are the defaults.
    keep = ("listen", "status_listen", "control_port", "ring_port_base", "disk_free_min_mib")
    with tempfile.TemporaryDirectory() as folder:
        with supervised.Supervised(folder, start=False) as pair:
            pair.sections = {name: {key: value for key, value in keys.items() if key in keep}
                             for name, keys in pair.sections.items()}
            pair.write_config()
            pair.start()
            pair.wait_until_served()
            time.sleep(5)  # Start-up's own work is over.
            pid = pair.process.pid
            before, threads, began = cpu_s(pid), by_thread(pid), time.monotonic()
            time.sleep(options.seconds)
            busy_s, lasted_s = cpu_s(pid) - before, time.monotonic() - began
            rss_mb = kib(pid, "status", "VmRSS") * 1024 / 1e6
            peak_mb = kib(pid, "status", "VmHWM") * 1024 / 1e6
            pss_mb = kib(pid, "smaps_rollup", "Pss") * 1024 / 1e6
            anonymous_mb = kib(pid, "status", "RssAnon") * 1024 / 1e6
            spent = {name: used - threads.get(name, 0) for name, used in by_thread(pid).items()}
    percent = 100 * busy_s / lasted_s
    print("| VmRSS, MB | of it anonymous | PSS, MB | VmHWM, MB | CPU, % of a core |")
    print("|---|---|---|---|---|")
    print(f"| {rss_mb:.1f} | {anonymous_mb:.1f} | {pss_mb:.1f} | {peak_mb:.1f} | {percent:.3f} |")
    for name, used_s in sorted(spent.items(), key=lambda pair: -pair[1])[:6]:
        print(f"  {name}: {1000 * used_s:.0f} ms in {lasted_s:.0f} s")
    verdicts = [f"RSS at most {TARGET_RSS_MB} MB: {'met' if rss_mb <= TARGET_RSS_MB else 'missed'}",
                f"CPU at most {TARGET_CPU_PERCENT} %: "
                f"{'met' if percent <= TARGET_CPU_PERCENT else 'missed'}"]
    print("targets: " + "; ".join(verdicts))


if __name__ == "__main__":
    main()
