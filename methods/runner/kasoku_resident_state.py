"""The places of the int64 numbers that a decode step keeps on the device."""

from __future__ import annotations

POSITION = 0  # of the token that the next step reads, in the sequence
STEP = 1  # tokens written so far
DONE = 2  # 1: the response has ended, and a step writes no further token
LIMIT = 3  # tokens of the response
SEED = 4
FORCED = 5  # 1: the next token is given, whatever the logits say
BEST = 6  # the best score with its id (kasoku_resident_kernels.ranked)
DRAWN = 7  # the same, of what was drawn
CUT = 8  # the farthest that a score may be from the best, in UNITs
BIN = 9  # within which `CUT` lies
BELOW = 10  # what counts in nearer bins
TARGET = 11  # what must count up to `CUT`
TALLY = 12  # programs of a kernel that are done
LISTED = 13  # scores on the short list
SIZE = 16

LOWEST = -(1 << 63)  # of BEST and DRAWN before anything was compared
EVERYTHING = 1 << 26  # of CUT: no score is farther
