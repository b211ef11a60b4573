"""A server that does what it is told by the path it is asked for, good or bad."""

from __future__ import annotations

LISTEN = r"""
use Socket;
my $at = shift; my $l;
$SIG{CHLD} = "IGNORE"; $SIG{TERM} = sub { exit 3 };
select STDOUT; $| = 1;
if ($at =~ m{^/}) {
    socket $l, PF_UNIX, SOCK_STREAM, 0; bind $l, sockaddr_un($at) or die "bind: $!\n";
} else {
    socket $l, PF_INET, SOCK_STREAM, 0; setsockopt $l, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $l, sockaddr_in($at, INADDR_LOOPBACK) or die "bind: $!\n";
}
listen $l, 64 or die;
"""
HTTP = (
    LISTEN
    + r"""
sub say_so {
    my ($status, $body, @head) = @_;
    unshift @head, "HTTP/1.1 $status X", "Content-Length: " . length $body;
    print join "\r\n", @head, "", $body;
}
sub act {
    my ($told, $asked) = @_; my $main = getppid;
    if ($told eq "fine")   { say_so 200, "fine" }
    if ($told eq "")       { say_so -e "ill" ? 503 : 200, "well" }
    if ($told eq "echo")   { say_so 200, $asked, "X-Own: a", "Keep-Alive: 5",
                             "Connection: X-Hop", "X-Hop: no" }
    if ($told eq "exit")   { kill TERM => $main; sleep 1000 }
    if ($told eq "kill")   { kill KILL => $main; sleep 1000 }
    if ($told eq "drop")   { exit }
    if ($told eq "hang")   { sleep 1000 }
    if ($told eq "garbage"){ print "220 not HTTP at all\r\n\r\n" }
    if ($told eq "flood")  { print "HTTP/1.1 200 X\r\nContent-Length: 1073741824\r\n\r\n";
                             my $x = "x" x 65536; print $x for 1 .. 16384 }
    if ($told eq "heads")  { print "HTTP/1.1 200 X\r\n"; print "A: b\r\n" while 1 }
    if ($told eq "partial"){ print "HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\npar"; exit }
    if ($told eq "half")   { print "HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\npar"; sleep 99 }
    if ($told eq "noise")  { $| = 0; say_so 200, "fine"; print "more"; $| = 1 }
    if ($told eq "last")   { say_so 200, "fine"; kill KILL => $main; exit }
    if ($told eq "rude")   { say_so 200, "fine"; exit }
    if ($told eq "close")  { say_so 200, "fine", "Connection: close"; exit }
    if ($told eq "old")    { print "HTTP/1.0 200 X\r\n\r\nfine"; exit }
    if ($told eq "parts")  { print "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                             "2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n" }
    if ($told eq "early")  { print "HTTP/1.1 413 X\r\nContent-Length: 3\r\nConnection: close",
                             "\r\n\r\nbig"; exit }
    if ($told eq "bomb")   { fork for 1 .. 8; sleep 1000 }
    if ($told eq "hog")    { my @x; push @x, "x" x (1 << 20) while 1 }
    if ($told eq "fill")   { open my $f, ">", "big" or die;
                             syswrite $f, "x" x 65536 or kill KILL => $main for 1 .. 65536 }
    if ($told eq "ill")    { open my $f, ">", "ill" or die; say_so 200, "fine" }
    if ($told eq "write")  { open my $f, ">", "mark" or die; say_so 200, "fine" }
    if ($told eq "look")   { say_so 200, -e "mark" ? "there" : "nothing" }
    if ($told eq "say")    { print STDERR "one\n"; print STDOUT "two\n"; say_so 200, "fine" }
    if ($told eq "meet")   { # answers when so many are here
        open my $f, ">", "met$$"; my ($n) = $asked =~ /X-Many: (\d+)/i;
        select undef, undef, undef, .01 while (() = glob "met*") < $n; say_so 200, "fine" }
}
while (accept my $c, $l) {
    if (fork) { close $c; next }
    select $c; $| = 1;
    while (defined(my $line = <$c>)) {
        my ($told) = $line =~ m{ /(\w*)} or exit; my $asked = $line; my $size = 0;
        act($told) if $told eq "early";
        while (defined($line = <$c>) && $line ne "\r\n") {
            $asked .= $line; $size = $1 if $line =~ /^content-length: (\d+)/i;
        }
        read $c, my $body, $size; act($told, $asked . $body);
    }
    exit;
}
"""
)
"""In Perl, since that is on each machine and starts at once. A connection is a process."""

MAIL = (
    LISTEN
    + r"""
my $is_lmtp = shift eq "lmtp";
sub say_so { print "@_\r\n" }
sub verdict {
    my $told = shift; my $main = getppid;
    return "451 later" if $told =~ /^later/;
    return "550-never\r\n550 ever" if $told =~ /^never/;
    if ($told =~ /^exit/)    { kill TERM => $main; sleep 1000 }
    if ($told =~ /^kill/)    { kill KILL => $main; sleep 1000 }
    if ($told =~ /^drop/)    { exit }
    if ($told =~ /^hang/)    { sleep 1000 }
    if ($told =~ /^garbage/) { return "what?" }
    if ($told =~ /^odd/)     { return "354 go on" }
    if ($told =~ /^flood/)   { my $x = "x" x 65536; print $x for 1 .. 16384 }
    if ($told =~ /^partial/) { print "25"; exit }
    if ($told =~ /^write/)   { open my $f, ">", "mark" or die }
    if ($told =~ /^look/)    { return -e "mark" ? "250 there" : "250 nothing" }
    if ($told =~ /^last/)    { say_so "250 fine"; kill KILL => $main; exit }
    return "250 fine";
}
while (accept my $c, $l) {
    if (fork) { close $c; next }
    select $c; $| = 1; binmode $c; my @to;
    say_so "220 here";
    while (defined(my $line = <$c>)) {
        $line =~ s/\r?\n$//;
        if ($line =~ /^(EHLO|LHLO) / && ($1 eq "LHLO") == $is_lmtp) {
            say_so "250-here"; say_so "250-SIZE 1000"; say_so "250 8BITMIME"; next }
        if ($line =~ /^MAIL FROM:<(.*)>(.*)$/) { @to = (); say_so verdict($1); next }
        if ($line =~ /^RCPT TO:<(.*?)>$/) {
            my $who = $1; my $v = $who =~ /^full/ ? "250 fine" : verdict($who);
            push @to, $who if $v =~ /^250/; say_so $v; next }
        if ($line eq "DATA") {
            if ($to[0] =~ /^nodata/) { say_so "554 no"; next }
            say_so "354 go"; my $mail = "";
            while (defined(my $l = <$c>)) { last if $l eq ".\r\n"; $l =~ s/^\.//; $mail .= $l }
            my $hex = unpack "H*", $mail;
            say_so /^full/ ? "452 $_ is full" : "250 $hex" for $is_lmtp ? @to : $to[0]; next }
        if ($line eq "QUIT") { say_so "221 bye"; exit }
        say_so "500 what";
    }
    exit;
}
"""
)

COUNT = (
    LISTEN
    + r"""
while (accept my $c, $l) {
    if (fork) { close $c; next }
    select $c; $| = 1; print "hello\n"; my $told = <$c>; my $all = join "", <$c>;
    kill KILL => getppid if $told =~ /die/;
    sleep 1000 if $told =~ /hang/;
    print scalar(split " ", $all), "\n" if $told =~ /count/; exit;
}
"""
)

PORT, SOCKET = "{port}", "{socket}"


def http_server(token: str, at: str) -> tuple[str, ...]:
    """Return the command of a server that listens at "{port}" or "{socket}"."""
    return ("perl", "-e", HTTP, at, token)


def mail_server(token: str, at: str, kind: str) -> tuple[str, ...]:
    """Return the command of a server of mail, "smtp" or "lmtp"."""
    return ("perl", "-e", MAIL, at, kind, token)
