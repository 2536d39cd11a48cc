-- Prints what was measured as one line of JSON, for the script to read. With a length as argument it looks at the
-- content of every response, which takes wrk so long that it is done in the warm-up only.
wrong = 0
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    if args[1] then
        local expected = string.rep("x", tonumber(args[1]))
        response = function(status, headers, body)
            if status ~= 200 or body ~= expected then wrong = wrong + 1 end
        end
    end
end

function done(summary, latency, requests)
    local e, content = summary.errors, 0
    for _, thread in ipairs(threads) do content = content + thread:get("wrong") end
    print(string.format(
        'JSON {"requests": %d, "seconds": %.6f, "bytes": %d, "p50": %d, "p99": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, "content": %d}',
        summary.requests, summary.duration / 1e6, summary.bytes,
        latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout, content))
end
