package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a system of its own, started by a real systemd in namespaces: this system's files below a layer that is thrown away, an own network and own processes.
type machine struct {
	t    *testing.T
	init *exec.Cmd
	out  *lockedBuffer
	root string // its files, as this system sees them while it is built
}

// boot makes the machine's files and starts it, in a control group of its own.
const boot = `set -e
mount --make-rprivate /
mkdir "$6"
echo 0 > "$6/cgroup.procs"
exec unshare --cgroup sh -c "$7" sh "$@"`

const bootInside = `set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cp "$2" "$1/root/usr/local/bin/hyphafs"
install -m 644 "$3" "$1/root/etc/ssl/certs/authority-of-the-test.pem"
mkdir -p "$1/root/etc/tls"
cp "$4" "$1/root/etc/tls/cert"
cp "$5" "$1/root/etc/tls/key"
cd "$1/root"
rm -rf etc/systemd/system/*.wants etc/resolv.conf etc/hosts
echo nameserver 127.0.0.1 > etc/resolv.conf
echo 127.0.0.1 localhost anna.example > etc/hosts
for dir in run tmp var/tmp dev; do mount -t tmpfs tmpfs $dir; done
chmod 1777 tmp var/tmp
chmod 755 run dev
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/tty c 5 0; mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/fuse c 10 229
mkdir dev/shm dev/pts
ln -s pts/ptmx dev/ptmx
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
ip link set lo up
useradd -R "$1/root" -m -u 4242 -s /bin/sh anna
cat > etc/systemd/system/anna.service <<X
[Service]
Type=notify
User=anna
Delegate=yes
RuntimeDirectory=anna
Environment=XDG_RUNTIME_DIR=/run/anna HOME=/home/anna
ExecStart=/lib/systemd/systemd --user
X
mount --make-rshared .
exec env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --system --unit=sysinit.target --show-status=0`

// newMachine boots a machine in which program is hyphafs, ca is trusted, cert and key are /etc/tls/cert and /etc/tls/key, and anna.example is loopback.
func newMachine(t *testing.T, program, ca, cert, key string) *machine {
	t.Helper()
	need(t, os.Getuid() == 0, "root, to start a system of its own")
	for _, command := range []string{"/lib/systemd/systemd", "nsenter", "unshare", "chroot", "useradd", "ip", "fusermount3"} {
		needCommand(t, command)
	}
	dir, err := os.MkdirTemp(scratch, "machine-")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, out: &lockedBuffer{}, root: filepath.Join(dir, "root")}
	groups := "/sys/fs/cgroup"
	if _, err := os.Stat(groups + "/cgroup.controllers"); err != nil {
		groups += "/systemd"
	}
	_, err = os.Stat(groups + "/cgroup.procs")
	need(t, err == nil, "control groups")
	group := filepath.Join(groups, filepath.Base(dir))
	m.init = exec.Command("sh", "-c", boot, "sh", dir, program, ca, cert, key, group, bootInside)
	m.init.Stdout, m.init.Stderr = m.out, m.out
	m.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // for as long as the test runs: the machine ends with the thread that starts it
	if err := m.init.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("systemctl status --no-pager --full hyphafs; journalctl --no-pager -n 60") // says what there is to say
			t.Logf("the machine said:\n%s\n%s", tail(m.out.String(), 3000), out)
		}
		if err := m.init.Process.Kill(); err != nil { // its first process: all others end with it
			t.Error(err)
		}
		_ = m.init.Wait() // killed
		if out, err := exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "a system", func() bool { _, err := m.try("systemctl is-active sysinit.target"); return err == nil })
	return m
}

// try runs a shell line as root of the machine.
func (m *machine) try(line string) (string, error) { return m.tryWith(nil, line) }

// tryWith is try with a standard input.
func (m *machine) tryWith(stdin io.Reader, line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", fmt.Sprint(m.init.Process.Pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--root",
		"env", "-C", "/", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "sh", "-c", line)
	cmd.Stdin = stdin
	cmd.WaitDelay = time.Second // its children may live on: the machine ends them
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ok runs a line that has to succeed and returns what it printed.
func (m *machine) ok(line string) string {
	m.t.Helper()
	out, err := m.try(line)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// anna runs a line, without single quotes, as an ordinary user whose service manager runs.
func (m *machine) anna(line string) string {
	m.t.Helper()
	return m.ok("cd /home/anna && exec setpriv --reuid anna --regid anna --init-groups env HOME=/home/anna XDG_RUNTIME_DIR=/run/anna sh -c '" + line + "'")
}

// readmeLine returns README's line that begins with what is given, without the remark behind it.
func readmeLine(t *testing.T, begin string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "    "+begin) {
			line, _, _ = strings.Cut(line, "  #")
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("README has no line %q", begin)
	return ""
}

// authorityOf runs pebble in the machine, lets the always-on node to come ask it, and lets all programs trust it.
func (m *machine) authorityOf(ca *authority, pebble string) {
	m.t.Helper()
	dir := m.t.TempDir()
	ca.issue(3, "localhost", filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	if err := os.WriteFile(filepath.Join(dir, "config"), pebbleConfig("/etc/pebble/cert", "/etc/pebble/key", 443, 80), 0o600); err != nil {
		m.t.Fatal(err)
	}
	for name, to := range map[string]string{pebble: "/usr/local/bin/pebble", filepath.Join(dir, "cert"): "/etc/pebble/cert", filepath.Join(dir, "key"): "/etc/pebble/key",
		filepath.Join(dir, "config"): "/etc/pebble/config"} {
		f, err := os.Open(name)
		if err != nil {
			m.t.Fatal(err)
		}
		_, err = m.tryWith(f, "install -D -m 755 /dev/stdin "+to)
		if err = errors.Join(err, f.Close()); err != nil {
			m.t.Fatal(err)
		}
	}
	m.ok(`mkdir -p /etc/systemd/system/hyphafs.service.d
printf '[Service]\nEnvironment=PEBBLE_VA_NOSLEEP=1\nExecStart=/usr/local/bin/pebble -config /etc/pebble/config\n' > /etc/systemd/system/pebble.service
printf '[Service]\nEnvironment=HYPHAFS_ACME_DIRECTORY=https://localhost:14000/dir\n' > /etc/systemd/system/hyphafs.service.d/test.conf
systemctl daemon-reload && systemctl start pebble`)
	eventually(m.t, "the authority's root", func() bool {
		_, err := m.try("cd /etc/ssl/certs && curl -sf --cacert authority-of-the-test.pem https://localhost:15000/roots/0 > pebble.pem && cat pebble.pem >> ca-certificates.crt")
		return err == nil
	})
}

// TestServices runs the units that hyphafs prints, and README's five lines, under a real systemd: an always-on node with all its hardening, which gets a certificate and takes the Hypha
// that an ordinary user's mount signs up, and is found by a sign-in that knows nothing but domain and passphrase; then a kill, a certificate from files, a process that hangs, and stops.
func TestServices(t *testing.T) {
	dir := t.TempDir()
	ca, pebble := newAuthority(t), pebblePath(t)
	ca.issue(2, "anna.example", filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	build, _, _ := strings.Cut(readmeLine(t, "CGO_ENABLED=0 go build"), " && ")
	static := filepath.Join(dir, "hyphafs")
	cmd := exec.Command("sh", "-c", strings.Replace(build, "-o hyphafs", "-o "+static, 1))
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	m := newMachine(t, static, ca.Path, filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	m.authorityOf(ca, pebble)
	property := func(name string) string { t.Helper(); return m.ok("systemctl show --value -p " + name + " hyphafs") }

	m.ok(readmeLine(t, "hyphafs service serve"))
	m.ok(readmeLine(t, "systemctl enable --now hyphafs"))
	if got := property("StatusText"); !strings.HasPrefix(got, "Hyphas: 0, connections: ") {
		t.Errorf("status %q", got)
	}
	if got := m.ok("stat -c %U:%a /var/lib/private/hyphafs; ps -o user= -p " + property("MainPID")); got != "hyphafs:700\nhyphafs" {
		t.Errorf("runs as %q", got)
	}
	if got := m.ok(readmeLine(t, "curl https://")); !strings.Contains(got, "ready") { // among what curl says of its progress
		t.Errorf("/healthz: %q", got)
	}

	m.ok("systemctl start anna.service")
	m.anna("umask 077; mkdir -p Hypha .config/systemd/user; echo " + passphrase + " > .config/passphrase")
	m.anna("hyphafs service mount --sign-up --domain anna.example --name Desktop --peer wss://anna.example --passphrase-file .config/passphrase Hypha > .config/systemd/user/hyphafs.service")
	m.anna("systemctl --user daemon-reload && systemctl --user start hyphafs && echo written > Hypha/file && hyphafs sync --peer Hypha")
	if got := m.anna("systemctl --user show --value -p StatusText hyphafs"); !strings.HasPrefix(got, "writable, ") {
		t.Errorf("the mount's status: %q", got)
	}
	if got := m.anna("tr \"\\0\" \" \" < /proc/$(systemctl --user show --value -p MainPID hyphafs)/cmdline"); strings.Contains(got, "passphrase") {
		t.Errorf("the mount's arguments: %q", got)
	}

	laptop := "--domain anna.example --name Laptop --passphrase-file .config/passphrase"
	m.anna("hyphafs sign-in --state L " + laptop + " && grep -q wss://anna.example L/config.json && mkdir B && hyphafs mount --state L --passphrase-file .config/passphrase B")
	eventually(t, "the file at the laptop, by the always-on node", func() bool {
		out, err := m.try("setpriv --reuid anna --regid anna --init-groups cat /home/anna/B/file")
		return err == nil && out == "written"
	})
	m.anna("hyphafs umount B")

	m.ok("systemctl kill --signal KILL hyphafs")
	eventually(t, "the always-on node again", func() bool { out, _ := m.try("systemctl is-active hyphafs"); return out == "active" })
	if got := property("NRestarts"); got != "1" {
		t.Errorf("%s restarts after a kill", got)
	}
	m.anna("hyphafs sign-in --state M " + laptop)

	m.ok("hyphafs service serve --tls-cert /etc/tls/cert --tls-key /etc/tls/key --domain anna.example > /etc/systemd/system/hyphafs.service")
	m.ok("systemctl daemon-reload && systemctl restart hyphafs && curl -sf --cacert /etc/ssl/certs/authority-of-the-test.pem https://anna.example/.well-known/dat")
	m.ok(`printf '[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\nRestartSec=1\n' >> /etc/systemd/system/hyphafs.service.d/test.conf && systemctl daemon-reload && systemctl restart hyphafs`)
	before, hung := property("NRestarts"), property("MainPID")
	m.ok("systemctl kill --kill-whom main --signal STOP hyphafs")
	eventually(t, "another process in place of the one that hangs", func() bool {
		return property("NRestarts") != before && property("MainPID") != hung && property("ActiveState") == "active"
	})
	if got := m.ok("journalctl --no-pager -o cat -u hyphafs"); !strings.Contains(got, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", tail(got, 2000))
	}

	m.anna("systemctl --user stop hyphafs && ! mountpoint -q Hypha")
	if got := m.anna("systemctl --user show --value -p Result hyphafs"); got != "success" {
		t.Errorf("the mount ended by %s", got)
	}
	m.ok("systemctl stop hyphafs")
	if got := property("Result"); got != "success" {
		t.Errorf("the always-on node ended by %s", got)
	}
}
