-- Prints what was measured as one line of JSON, for the script to read.
done = function(summary, latency, requests)
    local e = summary.errors
    print(string.format(
        'JSON {"requests": %d, "seconds": %.6f, "bytes": %d, "p50": %d, "p99": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}',
        summary.requests, summary.duration / 1e6, summary.bytes,
        latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end
