"""100,000 events of the recorded corpus as NDJSON: the recording again and again, each time later and with ids of its own.

python3 make.py crates/cli/data/browser-events.ndjson 100000 > events.ndjson
"""

import json
import re
import sys

lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
wanted = int(sys.argv[2])
times = [json.loads(line)["ts"] for line in lines]
length = max(times) - min(times) + 1_000_000
end_of_id = re.compile(r'("(?:request_id|loader_id|target_id|frame_id)":"[^"]*)"')

for n in range(wanted):
    again, at = divmod(n, len(lines))
    line = end_of_id.sub(rf'\g<1>-{again}"', lines[at])
    print(line.replace(f'"ts":{times[at]}', f'"ts":{times[at] + again * length}', 1))
