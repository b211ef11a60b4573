#!/usr/bin/perl -wT
#
# archive.cgi -- shows a mailbox
#
#   GET  says that it is there
#   POST of an mbox shows its mails, newest first; QUERY_STRING is whose it is

use strict;

$| = 1;
binmode STDIN;
binmode STDOUT;
my $method = $ENV{REQUEST_METHOD} || "";
if ($method eq "GET") {
    print "Content-Type: text/plain\r\n\r\narchive.cgi is here\n";
    exit;
}
if ($method ne "POST") {
    print "Status: 405 Method Not Allowed\r\nContent-Type: text/plain\r\n\r\nPOST an mbox.\n";
    exit;
}

my $owner = $ENV{QUERY_STRING} || "";
$owner =~ tr/+/ /;
$owner =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;

my (@mails, $mail);
while (<STDIN>) {
    if (/^From (\S*) /) {
        $mail = {head => 1, from => $1, subject => "", date => ""};
        push @mails, $mail;
    } elsif ($mail && $mail->{head}) {
        $mail->{head} = 0 if /^\r?$/;
        $mail->{lc $1} = $2 if /^(From|Subject|Date):[ \t]*(.*?)\r?$/i;
    }
}

print "Content-Type: text/html; charset=utf-8\r\n\r\n";
print "<html><head><title>Archive of ", html($owner), "</title></head>\n";
print "<body bgcolor=\"#ffffff\"><h1>Archive of ", html($owner), "</h1>\n";
print "<p>", scalar(@mails), " mail", (@mails == 1 ? "" : "s"), "</p>\n<table border=\"1\">\n";
foreach my $mail (reverse @mails) {
    print "<tr>", (map { "<td>" . html($mail->{$_}) . "</td>" } qw(date from subject)), "</tr>\n";
}
print "</table><hr><i>archive.cgi 1.3</i></body></html>\n";

sub html {
    my ($text) = @_;
    $text =~ s/&/&amp;/g;
    $text =~ s/</&lt;/g;
    $text =~ s/>/&gt;/g;
    $text =~ s/"/&quot;/g;
    return $text;
}
