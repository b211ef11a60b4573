#!/usr/bin/perl -w
#
# Keeps junkfilter loaded: each frame on standard input is a mail, each one on standard output
# the line about it. A frame is four bytes of length, the most significant first, and the bytes.

use strict;

(my $here = __FILE__) =~ s/[^\/]*$//;
require "${here}junkfilter.pl";
my $rules = Junkfilter::rules("${here}junkfilter.rules");

$| = 1;
binmode STDIN;
binmode STDOUT;
while (read(STDIN, my $head, 4) == 4) {
    my $size = unpack "N", $head;
    (read(STDIN, my $mail, $size) || 0) == $size or die "junkfilter: half a mail\n";
    my $line = Junkfilter::score($rules, $mail);
    print pack("N", length $line), $line;
}
