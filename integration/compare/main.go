package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// settings are what the command line says.
type settings struct {
	dir, bin, juicefs string // where everything is made; where hyphafs and loopback were built; JuiceFS, or ""
	run               *regexp.Regexp
	systems           []string
	rounds            int
	size              int64 // bytes of the big file
	files             int   // of the tree of small files
	entries           int   // of the directory that is renamed
	many              int   // files that a mount begins with; 0: not measured
	user              int   // become this user in a private mount namespace; 0: stay
	root              *dropper
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	s := settings{}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&s.dir, "dir", os.TempDir(), "make everything below `DIR`: mounts, stores, sources, on one disk")
	flags.StringVar(&s.bin, "bin", "", "`DIR` of the built hyphafs and loopback")
	flags.StringVar(&s.juicefs, "juicefs", "", "JuiceFS, `FILE`; without it JuiceFS is left out")
	run := flags.String("run", "", "only the rows that match `REGEXP`")
	systems := flags.String("systems", "", "only these of hyphafs,ext4,passthrough,loopback,gocryptfs,juicefs, by `LIST`")
	flags.IntVar(&s.rounds, "rounds", 5, "each round runs every system in turn, `N` rounds")
	flags.Int64Var(&s.size, "size", 1024, "`MIB` of the big file")
	flags.IntVar(&s.files, "files", 10_000, "`N` files of 4 KiB in folders of 100")
	flags.IntVar(&s.entries, "entries", 10_000, "rename a directory of `N` entries")
	flags.IntVar(&s.many, "many", 0, "also mount with `N` files; 1000000 takes many minutes")
	flags.IntVar(&s.user, "user", 0, "as root: do it all as the user `UID`, who mounts through fusermount3")
	helped := flags.Bool("helped", false, "descriptors 3 and 4 lead to a process that drops the caches (set by -user)")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	s.size <<= 20
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("%s: there are only flags", flags.Arg(0))
	case s.bin == "":
		return s, errors.New("-bin is needed; integration/compare.sh builds and gives it")
	case s.rounds < 1 || s.size < 1<<20 || s.files < 100 || s.entries < 1:
		return s, errors.New("at least 1 round, 1 MiB, 100 files and 1 entry")
	}
	var err error
	if s.run, err = regexp.Compile("(?i)" + *run); err != nil {
		return s, err
	}
	if *systems != "" {
		s.systems = strings.Split(*systems, ",")
	}
	if *helped {
		s.root = helper()
	} else if os.Geteuid() == 0 {
		s.root = &dropper{}
	}
	return s, nil
}

func compare(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	base, err := os.MkdirTemp(s.dir, "compare-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	if base, err = filepath.Abs(base); err != nil {
		return err
	}
	if s.user != 0 {
		return asUser(ctx, base, s.user, args)
	}
	b := &bench{settings: s, ctx: ctx, base: base, results: map[string]map[string][]float64{}, published: map[string][]float64{}}
	if b.all, err = systems(s, base); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.unmountAll()) }()
	return b.compare()
}

// compare runs what was asked for and prints it.
func (b *bench) compare() error {
	for _, sys := range b.all {
		if err := sys.mount(b.ctx); err != nil {
			return err
		}
	}
	fmt.Println(b.header())
	for _, g := range groups(b.settings) {
		if err := b.runGroup(g); err != nil {
			return err
		}
	}
	b.print(os.Stdout)
	if h := b.system(hyphafs); h != nil {
		return b.alone(h)
	}
	return nil
}

func (b *bench) unmountAll() (err error) {
	for _, sys := range b.all {
		err = errors.Join(err, sys.unmount(context.WithoutCancel(b.ctx)))
	}
	return err
}

func (b *bench) system(name string) *system {
	if i := slices.IndexFunc(b.all, func(s *system) bool { return s.name == name }); i >= 0 {
		return b.all[i]
	}
	return nil
}

func (b *bench) header() string {
	var u unix.Utsname
	kernel := "an unknown kernel"
	if unix.Uname(&u) == nil {
		kernel = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	cold := "drop_caches and a new mount"
	if b.root == nil {
		cold = "fadvise of what lies below and a new mount"
	}
	return fmt.Sprintf("%s, %s; %d rounds, big file %d MiB, %d small files; cold: %s", b.who(), kernel, b.rounds, b.size>>20, b.files, cold)
}

func (b *bench) who() string {
	if os.Geteuid() == 0 {
		return "as root"
	}
	return fmt.Sprintf("as user %d", os.Geteuid())
}
