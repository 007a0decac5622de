#!/bin/sh
# Makes of a directory with usr/bin/rustmq a root file system that it runs in, out of the
# Debian that this runs in. SOURCE_DATE_EPOCH is the time of every file.
# Usage: root.sh DIR
set -eu
root=$1
# Where the loader finds them is where they have to be; names are of links, files are copied.
for library in $(ldd "$root/usr/bin/rustmq" | sed -n 's|.*[[:space:]]\(/[^ ]*\) (0x.*|\1|p') /lib/*-linux-gnu/libresolv.so.2; do
	install -D "$(realpath "$library")" "$root$library"
done
mkdir -p "$root/etc/rustmq" "$root/etc/ssl/certs" "$root/var/lib" "$root/proc" "$root/sys" "$root/dev"
install -d -m 1777 "$root/tmp"
install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs"
echo 'rustmq:x:65532:65532:rustmq:/var/lib/rustmq:/nonexistent' >"$root/etc/passwd"
echo 'rustmq:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
for package in libc6 libgcc-s1 ca-certificates; do
	install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
