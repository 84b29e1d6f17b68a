#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# stream.pl SOCKET connect NODE SERVICE | stream.pl SOCKET accept SERVICE
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;

my ($path, $verb, @names) = @ARGV;
my $query = $verb eq 'connect' ? "node=$names[0]&service=$names[1]" : "service=$names[0]";
my $socket = IO::Socket::UNIX->new(Peer => $path) or die "$path: $!\n";
put($socket, "GET /v1/$verb?$query HTTP/1.1\r\nHost: node\r\n"
    . "Connection: Upgrade\r\nUpgrade: gmesh-stream\r\n\r\n");

# The answer, after any 100 Continue; what follows it is of the stream.
my ($received, $status) = ('', 100);
while ($status == 100) {
    my $end;
    while (($end = index $received, "\r\n\r\n") < 0) { more() or die "no answer\n" }
    ($status) = substr($received, 0, $end + 4, '') =~ m{\AHTTP/1\.1 (\d+)} or die "no answer\n";
}
if ($status != 101) {
    1 while more();
    die "$status: $received";
}

# Standard input becomes DATA and at its end FIN; DATA becomes standard output, until RESET.
my ($waiting, $open) = ('', 1);    # frames not yet sent; standard input goes on
$socket->blocking(0);
while (1) {
    while (length $received >= 4) {
        my $head = unpack 'N', $received;
        my ($kind, $size) = ($head >> 24, $head & 0xffffff);
        last if length $received < 4 + $size;
        my $body = substr substr($received, 0, 4 + $size, ''), 4;
        if ($kind == 0) { put(\*STDOUT, $body) }
        if ($kind == 2 && $open) { ($waiting, $open) = ($waiting . frame(1, ''), 0) }
        if ($kind == 3) {
            my ($code, $why) = unpack 'n a*', $body;
            exit 0 if $code == 0;
            die "broken ($code): $why\n";
        }
    }
    my $reading = IO::Select->new($socket, $open && $waiting eq '' ? \*STDIN : ());
    my $writing = $waiting eq '' ? undef : IO::Select->new($socket);
    my ($readable, $writable) = IO::Select->select($reading, $writing);
    for my $ready (@$readable) {
        if ($ready == $socket) { more() or die "broken: the daemon is gone\n" }
        elsif (sysread STDIN, my $data, 65536) { $waiting = frame(0, $data) }
        else { ($waiting, $open) = (frame(1, ''), 0) }
    }
    if (@$writable) {
        my $sent = syswrite($socket, $waiting) // die "broken: $!\n";
        substr($waiting, 0, $sent, '');
    }
}

sub more { return sysread $socket, $received, 65536, length $received }

sub frame { my ($kind, $body) = @_; return pack('N', $kind << 24 | length $body) . $body }

sub put {
    my ($handle, $data) = @_;
    while (length $data) {
        my $sent = syswrite($handle, $data) // die "$!\n";
        substr($data, 0, $sent, '');
    }
}
