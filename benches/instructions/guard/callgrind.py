"""Reads what callgrind dumped: totals, and who called the allocator how often.

The format is described in the manual of Valgrind, "Callgrind Format Specification".
"""

import re
from collections import Counter

# Where an allocation begins: in Rust's door to its allocator, in mimalloc where that door was
# inlined, or in the allocator of the C library.
ALLOCATION = re.compile(r"^(__rustc::__rust_(re)?alloc|mi_(heap_)?(m|z|c|re)alloc|(m|c|re)alloc|posix_memalign|aligned_alloc)")
# One of these calling another is still one allocation.
ALLOCATOR = re.compile(r"^(__rustc::|_?mi_|_int_|malloc|calloc|realloc|__libc_|posix_memalign|aligned_alloc|_mid_memalign)")


class Dump:
    """One dump: `instructions`, `own` instructions of each function without those that it calls,
    and `allocations` by the function that made them."""

    def __init__(self, text):
        self.instructions = 0
        self.own, self.allocations = Counter(), Counter()
        names = {}
        here = called = ""
        of_call = False

        def name(reference):
            # "(3) name" defines, "(3)" refers. A quote and a number tell levels of recursion apart.
            number, _, given = reference.partition(" ")
            if given:
                names[number] = re.sub(r"'\d+$", "", given)
            return names[number]

        for line in text.splitlines():
            if line.startswith("fn="):
                here = name(line[3:])
            elif line.startswith("cfn="):
                called = name(line[4:])
            elif line.startswith("calls="):
                of_call = True
                if ALLOCATION.match(called) and not ALLOCATOR.match(here):
                    self.allocations[here] += int(line[6:].split()[0])
            elif line[:1] in "0123456789+-*" and line:
                # The line behind `calls=` is what the called function took.
                if not of_call:
                    self.own[here] += int(line.split()[1])
                of_call = False
        self.instructions = sum(self.own.values())
