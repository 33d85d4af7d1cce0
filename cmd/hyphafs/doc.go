// Hyphafs mounts a Hypha, a person's own database spread over their own machines, as a folder.
//
//	hyphafs mount [flags] DIR        mount; asks for what it needs on a terminal
//	hyphafs umount DIR               publish, flush, unmount, wait for the node to end
//	hyphafs sign-up [flags]          make a new Hypha on this node (the origin), without mounting
//	hyphafs sign-in [flags]          make this machine a node of an existing Hypha, without mounting
//	hyphafs sync [--peer] [DIR]      publish everything now and make it durable; with --peer, wait until a peer has it all
//	hyphafs status [--json] [DIR]    state, peers, progress; exit 0 writable, 3 read-only (not approved), 4 not running
//	hyphafs pending [--json] [DIR]   open requests, with the words to compare
//	hyphafs approve NODE [DIR]       the same as touching approve; also deny
//	hyphafs nodes [--json] [DIR]     writers of this Hypha: name, fingerprint, approved by, last seen
//	hyphafs link [DIR]               the hyphalink: hypha://<read key, 64 hex digits>
//	hyphafs check [flags] [DIR]      verify every signature, tree, record and the view
//	hyphafs serve [flags]            the always-on node
//	hyphafs service serve [flags]    print a systemd unit that runs the always-on node
//	hyphafs service mount [flags] DIR  print a systemd unit that mounts at DIR, for the user's own manager
//	hyphafs passphrase               print a new one: EFF diceware, at least 100 bits
//
// Flags may stand before or behind arguments. Those of mount, sign-up, sign-in and serve are also read from the environment, as
// HYPHAFS_<FLAG>; hyphafs COMMAND --help lists them.
//
// # Which node
//
// A node lives in a state directory: --state, or $XDG_DATA_HOME/hyphafs/<domain>. If just one lives there, mount takes it without being told. What the first
// mount said of domain, name, peers, listeners and discovery is remembered; flags of a later mount replace peers, listeners and discovery for
// that run. Commands that talk to a running node find it by DIR (any folder in the mount, or a state directory), by --state, by the working
// directory, or because only one is mounted. The kernel's table of mounts names the state directory of each as its source.
//
// # Passphrase
//
// It is the first line of --passphrase-fd, of --passphrase-file or of $CREDENTIALS_DIRECTORY/passphrase, or is asked for, hidden, if standard input is a
// terminal. It is never an argument or an environment variable. A sign-up without one makes one: shown once and typed again on a terminal, or
// written to the file that --passphrase-file names, which must not exist, with mode 0600. A weak one that is given is refused with the reason.
//
// A sign-in on which a --peer can be reached asks that peer, before anything is written, whether it knows this Hypha; if all that answer do not, the
// passphrase or the domain is wrong. If none answers, it says that neither could be checked.
//
// # Peers
//
// --peer and --listen name a transport: tcp://host:port, ws://host:port and, to connect, wss://host. A WebSocket goes to /hypha/<read key>, which is added, through the proxies
// that the environment names. ws:// tells the read key to whoever sees the traffic (package ws); a node that dials it beyond this machine says so. A peer that has no room for more of this
// Hypha is shown with the reason, and sync --peer fails with it. A --peer that cannot be reached is shown with the reason as well; sync --peer waits for it, and says so after some seconds.
//
// # The always-on node
//
// serve keeps Hyphas for nodes that are not there: those of --hypha, or the first that shows itself, with --adopt. It has read keys and no passphrase, and can read nothing and
// approve nobody. It runs in the foreground, logs to standard error, prints "ready" and the URLs it listens at, and ends in order, within 5 s, by SIGTERM. Package serve says
// what it does and what it keeps; it answers /hypha/<read key>, /.well-known/dat (Dat DNS), /healthz, /metrics and / at --http. Its log has no address and no key.
// A --hypha is in the list of processes, which every user of the machine sees; HYPHAFS_HYPHA in the environment is not.
//
// # Finding the always-on node
//
// If the domain is the name of a host, a sign-in without --peer asks https://DOMAIN/.well-known/dat (Dat DNS) which Hypha it keeps. The right one: the host is
// remembered as a peer. Another one: exit code 5, since the passphrase is wrong or the host is an impostor, and nothing is written. No answer: a line says what to do. A running
// node asks again from time to time; a host that names another Hypha than before is an alarm in status, and changes nothing. --no-discovery asks nobody.
//
// # Running
//
// mount starts the node in the background, in a session of its own, and returns when the mount answers, or with the node's error; the node logs to
// STATE/log. With --foreground it stays, logs to standard error and prints "ready DIR". SIGTERM, SIGINT, SIGHUP, umount and fusermount3 -u all end
// a node in order: unmount, publish, make durable. While files are in use, umount refuses with exit code 6; a signal detaches the mount. A mount over files hides them, and says so. A mount
// that a crash left dead is cleaned by the next mount, or by umount.
//
// A state directory that was moved, copied or restored from a backup may be an older copy of itself, whose node would sign other blocks for places of its feeds that are taken. A stamp
// in it tells (package state). Such a node is read-only, and status says why, until a peer has told how far its feeds go and what is missing was taken over. Where no
// other machine can have later changes of this node, mount it once with --trust-store.
//
// A node has no core dumps and cannot be traced by other processes of the user.
//
// # systemd
//
// Started by a service manager (sd_notify(3)), a node says when its mount answers, how it is, that it stops, and that it still lives. What it says holds no name,
// address or key. hyphafs service prints units that use this; what else is in them and why is said in cmd_service.go. The passphrase reaches a unit as
// a credential, never as an argument.
//
// # fstab
//
// Linked as mount.hyphafs it takes what mount(8) gives it: a state directory or domain, a folder, and -o with the options of
// mount: any flag as name=value, dashes as underscores if you like.
//
//	/var/lib/hypha/anna  /home/anna/Hypha  hyphafs  noauto,user,passphrase_file=/etc/hypha/anna,peer=tcp://server:4000,show_control  0 0
//
// # check
//
// On a running node, check goes through the node, which has the lock and the keys; no passphrase is needed. Else it takes the lock itself
// and opens the store with the passphrase. It prints one line and exits with 0 when all is clean, 1 when something is wrong in a store that opens, and 7 when the store does not
// open any more.
//
// # Exit codes
//
//	0 done                   4 not running
//	1 failed                 5 wrong passphrase or domain
//	2 usage                  6 busy: already mounted or locked
//	3 not approved           7 damaged store
//
// Errors are one line on standard error: what, why, and what to do next.
//
// # How it is made
//
// main calls run, run returns the exit code; one file holds a command. Below internal: node assembles drive, auth, replication and fs into one running
// node; serve is the always-on one; transport chooses by URL; process keeps a process to itself; control is the socket that commands talk to it by; background is the re-execution; state the directory; prompt the terminal; mounts the kernel's table;
// status what is shown; fault the exit codes.
package main
