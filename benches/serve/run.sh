#!/bin/sh
# bakery serve against nginx: 256 KiB ranges of one layer, and 200 clients fetching a pack of
# 11 MiB, on loopback. Interleaved rounds; prints requests per second and the medians' ratio.
# usage: benches/serve/run.sh [ROUNDS]     needs: wrk, nginx, target/release/bakery
set -eu
rounds=${1:-5}
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
chmod 755 "$work"
trap 'kill $(cat "$work/nginx.pid" 2>/dev/null) $bakery 2>/dev/null; rm -rf "$work"' EXIT
bakery=
layer=$(printf 'ab%.0s' $(seq 32)).layer
pack=$(printf 'cd%.0s' $(seq 32)).layer
mkdir -p "$work/store/layers" "$work/store/packs"
echo '{"format":1}' > "$work/store/store.json"
head -c 268435456 /dev/urandom > "$work/store/layers/$layer"
head -c 11534336 /dev/urandom > "$work/store/packs/$pack"
cat > "$work/nginx.conf" <<END
worker_processes auto; pid $work/nginx.pid; error_log $work/nginx.log;
events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=100;
  server { listen 127.0.0.1:8191; root $work/store; } }
END
cat > "$work/range.lua" <<'END'
math.randomseed(7)
request = function()
  local at = math.random(0, 1023) * 262144
  return wrk.format("GET", nil, { ["Range"] = "bytes=" .. at .. "-" .. (at + 262143) })
end
END
nginx -c "$work/nginx.conf"
"$top/target/release/bakery" --store "$work/store" serve --listen 127.0.0.1:8192 --threads "$(nproc)" 2> "$work/bakery.log" &
bakery=$!
sleep 2
for _ in $(seq "$rounds"); do
    for port in 8191 8192; do
        rate=$(wrk -t1 -c16 -d5s -s "$work/range.lua" "http://127.0.0.1:$port/layers/$layer" | awk '/Requests.sec/ { print $2 }')
        echo "$port $rate" | tee -a "$work/rates"
    done
done
median() { awk -v port="$1" '$1 == port { print $2 }' "$work/rates" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
awk -v ours="$(median 8192)" -v theirs="$(median 8191)" 'BEGIN { printf "bakery / nginx = %.2f\n", ours / theirs }'
echo "200 clients, whole pack of 11 MiB:"
wrk -t2 -c200 -d30s --timeout 60s --latency "http://127.0.0.1:8192/packs/$pack" | grep -E '50%|99%|requests in|Socket|Non-2xx' || true
