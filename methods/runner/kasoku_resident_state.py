"""The places of the int64 numbers that a decode step keeps on the device."""

from __future__ import annotations

POSITION = 0  # of the token that the next step reads, in the sequence
STEP = 1  # tokens written so far
DONE = 2  # 1: the response has ended, and a step writes no further token
LIMIT = 3  # tokens of the response
SEED = 4
FORCED = 5  # 1: the next token is given, whatever the logits say
DRAWN = 6  # what was drawn, with its id (kasoku_resident_kernels.ranked)
CUT = 7  # the farthest that a score may be from the best, in UNITs
BIN = 8  # within which `CUT` lies
BELOW = 9  # what counts in nearer bins
TARGET = 10  # what must count up to `CUT`
TALLY = 11  # programs of a kernel that are done
LISTED = 12  # scores on the short list
SIZE = 16

GROUPS = 256  # of scores, in each of which the best is found by itself, with its id
LOWEST = -(1 << 63)  # of these and DRAWN before anything was compared
EVERYTHING = 1 << 26  # of CUT: no score is farther
