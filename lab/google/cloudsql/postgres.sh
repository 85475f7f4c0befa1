#!/bin/sh
# PostgreSQL behind the Cloud SQL stand-in; it is started again whenever it exits.
#
# usage: nsenter --net=/run/netns/NAME unshare --mount --ipc sh postgres.sh ROOTFS
#
# ROOTFS is an unpacked Debian with postgresql-15, in which nothing is written: $GOOGLE_DIR/postgres, with the
# data and the socket, is mounted over it. The mounts end with the mount namespace, and the shared memory
# that a killed server leaves behind with the IPC namespace. The working directory is the one with `lab`.
# SIGTERM ends the server at once; when this script is killed, the server ends too.
set -eu
root=$1
read -r directory port project user databases <<END
$(python3 -c '
from lab import layout as l
print(l.GOOGLE_DIR, l.POSTGRES_PORT, l.PROJECT, l.BACKSTAGE_DATABASE_USER, *l.DATABASES)')
END
directory=${GOOGLE_DIR:-$directory}/postgres
home=/var/lib/postgresql
export PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin

in_root() {
    exec chroot "$root" setpriv --reuid=postgres --regid=postgres --clear-groups --pdeathsig=QUIT "$@"
}

sql() {
    # The name that Cloud SQL gives to the group of all IAM users.
    echo "CREATE ROLE cloudsqliamserviceaccount NOLOGIN;"
    # The second is a user that is not the application's, and that nothing is granted to.
    for name in "$user" "intruder@$project.iam"; do
        echo "CREATE ROLE \"$name\" LOGIN IN ROLE cloudsqliamserviceaccount;"
    done
    for name in $databases; do
        echo "CREATE DATABASE $name OWNER \"$user\";"
    done
}

create() {
    rm -rf "$directory/draft"
    (in_root initdb --pgdata="$home/draft" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync)
    # Who is logged in as an IAM user was decided on port 3307; all others need their password.
    cat >"$directory/draft/pg_hba.conf" <<END
local all postgres                                 trust
host  all +cloudsqliamserviceaccount 127.0.0.1/32  trust
host  all all                        127.0.0.1/32  scram-sha-256
END
    sql | (in_root postgres --single -D "$home/draft" -c exit_on_error=on -c fsync=off postgres) >/dev/null
    mv "$directory/draft" "$directory/data"
}

mkdir -p "$directory/socket"
mount --bind "$directory" "$root$home"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir -m 1777 "$root/dev/shm"
touch "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
chroot "$root" chown postgres:postgres "$home" "$home/socket"
[ -d "$directory/data" ] || create

server=
# Clients are not waited for, and nothing is written back: the next start recovers from the log.
trap '[ -z "$server" ] || { kill -QUIT "$server"; wait "$server"; } 2>/dev/null; exit 0' TERM INT
while true; do
    (in_root postgres -D "$home/data" -c listen_addresses=127.0.0.1 -c port="$port" \
        -c unix_socket_directories="$home/socket" -c max_connections=200 -c fsync=off) &
    server=$!
    wait "$server" || true
    server=
    sleep 0.2
done
