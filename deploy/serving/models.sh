#!/bin/sh
# The names of the models that the file $1, a ModelServerConfig as text, configures; one a line.
# Strings and comments are skipped as a whole: a `name` inside them does not count.
grep -soE "\"(\\\\.|[^\"\\])*\"|'(\\\\.|[^'\\])*'|#.*|\w+|:" "$1" | sed -nE '/^name$/{n;/^:$/n;s/^.(.*).$/\1/p}'
