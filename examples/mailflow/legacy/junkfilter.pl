#!/usr/bin/perl -w
#
# junkfilter -- scores mail by rules
#
#   junkfilter [rules] < mail
#
# prints one line:  X-Junk: score rule rule ...
# exits with 0, or with 75 (try again later) when the rules cannot be read.
#
# Only the first 256 kB of a mail are looked at.

package Junkfilter;

use strict;

my $LOOK  = 256 * 1024;
my $DEPTH = 20;
my $PARTS = 200;

sub rules {
    my ($file) = @_;
    my @rules;
    open(RULES, "<", $file) or die "junkfilter: $file: $!\n";
    while (<RULES>) {
        next if /^\s*(#|$)/;
        chomp;
        my ($name, $weight, $where, $times, $pattern) = split ' ', $_, 5;
        die "junkfilter: $file: line $.: five columns are expected\n" unless defined $pattern;
        my $absent = $pattern =~ s/^!//;
        push @rules, [$name, $weight, $where, $times, qr/$pattern/mi, $absent];
    }
    close RULES;
    return \@rules;
}

sub score {
    my ($rules, $mail) = @_;
    my ($head, $body) = halves(substr $mail, 0, $LOOK);
    my $left    = $PARTS;
    my $text    = text($head, $body, $DEPTH, \$left);
    my $subject = field($head, "Subject");
    my %in = (head => $head, subject => $subject, text => $text, words => "$subject\n$text");
    my ($score, @hits) = (0);
    foreach my $rule (@$rules) {
        my ($name, $weight, $where, $times, $pattern, $absent) = @$rule;
        my $found = 0;
        pos($in{$where}) = 0;
        $found++ while $found < $times && $in{$where} =~ /$pattern/g;
        next unless $absent ? !$found : $found >= $times;
        $score += $weight;
        push @hits, $name;
    }
    return "X-Junk: " . join(" ", sprintf("%.1f", $score), @hits) . "\n";
}

# head and body of a mail or part, the lines of the head unfolded
sub halves {
    my ($whole) = @_;
    return ("", $whole) if $whole =~ s/^\r?\n//;
    my ($head, $body) = split /\r?\n\r?\n/, $whole, 2;
    $head = "" unless defined $head;
    $head =~ s/\r?\n[ \t]+/ /g;
    $head =~ s/\r//g;
    return ($head, defined $body ? $body : "");
}

sub field {
    my ($head, $name) = @_;
    return "" unless $head =~ /^\Q$name\E:[ \t]*(.*)$/mi;
    my $value = $1;
    $value =~ s/\?=\s+=\?/?==?/g;
    $value =~ s/=\?[^?\s]+\?([bq])\?([^?\s]*)\?=/word(lc $1, $2)/gie;
    return $value;
}

sub word {
    my ($how, $text) = @_;
    return base64($text) if $how eq "b";
    $text =~ tr/_/ /;
    return quoted($text);
}

# what there is to read in a mail or part
sub text {
    my ($head, $body, $depth, $left) = @_;
    my $type = field($head, "Content-Type");
    if ($depth && $type =~ m!^multipart/.*?boundary=(?:"([^"]+)"|([^\s;"]+))!is) {
        my $mark = defined $1 ? $1 : $2;
        my (undef, @parts) = split /^--\Q$mark\E(?:--)?[ \t]*\r?$/m, $body;
        my @texts;
        foreach my $part (@parts) {
            last if $$left-- <= 0;
            $part =~ s/^\n//;
            push @texts, text(halves($part), $depth - 1, $left);
        }
        return join "\n", @texts;
    }
    return "" if $type ne "" && $type !~ m!^text/(?:plain|html)\b!i;
    return "" if field($head, "Content-Disposition") =~ /^attachment\b/i;
    my $coding = lc field($head, "Content-Transfer-Encoding");
    $body = base64($body) if $coding =~ /^base64\b/;
    $body = quoted($body) if $coding =~ /^quoted-printable\b/;
    if ($type =~ m!^text/html\b!i) {
        $body =~ s/<(script|style)\b.*?<\/\1\s*>/ /gis;
        $body =~ s/<[^>]*>/ /g;
    }
    return $body;
}

sub base64 {
    my ($text) = @_;
    $text =~ tr!A-Za-z0-9+/!!cd;
    $text =~ tr!A-Za-z0-9+/! -_!;
    my $bytes = "";
    $bytes .= unpack "u", chr(32 + int(length($1) * 3 / 4)) . $1 while $text =~ /(.{1,60})/gs;
    return $bytes;
}

sub quoted {
    my ($text) = @_;
    $text =~ s/=[ \t]*\r?\n//g;
    $text =~ s/=([0-9A-Fa-f]{2})/chr hex $1/ge;
    return $text;
}

sub main {
    my ($rules) = @_;
    unless (defined $rules) {
        ($rules = __FILE__) =~ s/[^\/]*$/junkfilter.rules/;
    }
    my $loaded = eval { rules($rules) };
    if (!$loaded) {
        print STDERR $@;
        return 75;
    }
    binmode STDIN;
    local $/;
    my $mail = <STDIN>;
    print score($loaded, defined $mail ? $mail : "");
    return 0;
}

exit main(@ARGV) unless caller;
1;
