package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// alone measures what only hyphafs has, and prints it row by row.
func (b *bench) alone(h *system) error {
	rows := []struct {
		name, target string
		do           func(h *system, dir string) (figure string, ok bool, err error)
	}{
		{fmt.Sprintf("rename a directory of %d entries", b.entries), "the time of an empty one", b.renameFull},
		{"a 4-KiB change in the big file", "at most 128 KiB more in the feeds, published within 2 s", b.changeBig},
		{"log growth of new files", "under 1,000 bytes a file, its content aside", b.growth},
		{"a file written 1,000 times within a minute", "at most 100 records", b.rewrite},
		{fmt.Sprintf("mount with %d files", b.many), "under 1 s after the keys; RSS under 150 MiB then, 250 MiB after find", b.manyFiles},
	}
	for i, r := range rows {
		if !b.run.MatchString(r.name) || i == len(rows)-1 && b.many == 0 {
			continue
		}
		dir := filepath.Join(h.dir, fmt.Sprintf("alone %d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		figure, ok, err := r.do(h, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		verdict := "short"
		if ok {
			verdict = "ok"
		}
		fmt.Printf("\n%s: %s\n  target: %s: %s\n", r.name, figure, r.target, verdict)
		if err := errors.Join(command(b.ctx, "rm", "-rf", dir), h.publish(b.ctx)); err != nil {
			return err
		}
	}
	return nil
}

// renameFull renames a full and an empty directory in turn, known to the node and then right after a mount.
func (b *bench) renameFull(h *system, dir string) (string, bool, error) {
	full, empty := filepath.Join(dir, "full"), filepath.Join(dir, "empty")
	if err := errors.Join(os.Mkdir(full, 0o755), os.Mkdir(empty, 0o755)); err != nil {
		return "", false, err
	}
	for i := range b.entries {
		if err := withFile(filepath.Join(full, strconv.Itoa(i)), unix.O_WRONLY|unix.O_CREAT, func(int) error { return nil }); err != nil {
			return "", false, err
		}
	}
	if err := h.publish(b.ctx); err != nil {
		return "", false, err
	}
	rename := func(path string) (float64, error) {
		start := time.Now()
		err := unix.Rename(path, path+" moved")
		took := time.Since(start).Seconds()
		return took, errors.Join(err, unix.Rename(path+" moved", path))
	}
	pairs := func(times int) (fulls, empties []float64, err error) {
		for range times {
			f, err1 := rename(full)
			e, err2 := rename(empty)
			if err := errors.Join(err1, err2); err != nil {
				return nil, nil, err
			}
			fulls, empties = append(fulls, f), append(empties, e)
		}
		return fulls, empties, nil
	}
	fulls, empties, err := pairs(200)
	if err != nil {
		return "", false, err
	}
	var cold, coldEmpty []float64
	for range b.rounds {
		if err := h.cool(b.ctx, b.root); err != nil {
			return "", false, err
		}
		f, e, err := pairs(1)
		if err != nil {
			return "", false, err
		}
		cold, coldEmpty = append(cold, f...), append(coldEmpty, e...)
	}
	before, err := records(h)
	if err != nil {
		return "", false, err
	}
	start := time.Now()
	if err := errors.Join(unix.Rename(full, full+" moved"), h.publish(b.ctx)); err != nil {
		return "", false, err
	}
	took := time.Since(start)
	after, err := records(h)
	if err != nil {
		return "", false, err
	}
	figure := fmt.Sprintf("median %.0f us, an empty one %.0f us; the first after a mount with cold caches %.0f us, an empty one behind it %.0f us; one rename is %d records, published in %.0f ms",
		median(fulls)*1e6, median(empties)*1e6, median(cold)*1e6, median(coldEmpty)*1e6, after-before, took.Seconds()*1e3)
	return figure, median(fulls) < 1.25*median(empties), nil
}

// changeBig changes 4 KiB in the big file and waits until the node publishes it by itself.
func (b *bench) changeBig(h *system, dir string) (string, bool, error) {
	t := &turn{bench: b, sys: h, dir: dir}
	if err := errors.Join(writeBig(t), h.publish(b.ctx)); err != nil {
		return "", false, err
	}
	var most int64
	var longest time.Duration
	for range b.rounds {
		before, err := feedBytes(h)
		if err != nil {
			return "", false, err
		}
		known, err := records(h)
		if err != nil {
			return "", false, err
		}
		start := time.Now()
		err = withFile(t.big(), unix.O_WRONLY, func(fd int) error {
			_, err := unix.Pwrite(fd, make([]byte, 4*kib), t.anywhere(rand.New(rand.NewPCG(uint64(start.UnixNano()), 0))))
			return err
		})
		for now := known; err == nil && now == known && time.Since(start) < time.Minute; time.Sleep(10 * time.Millisecond) {
			now, err = records(h)
		}
		longest = max(longest, time.Since(start))
		if err := errors.Join(err, h.publish(b.ctx)); err != nil {
			return "", false, err
		}
		after, err := feedBytes(h)
		if err != nil {
			return "", false, err
		}
		most = max(most, after-before)
	}
	return fmt.Sprintf("at most %.1f KiB, published after %.2f s at the latest, of %d times", float64(most)/kib, longest.Seconds(), b.rounds), most <= 128*kib && longest <= 2*time.Second, nil
}

// growth tells what the log of new small files takes.
func (b *bench) growth(h *system, dir string) (string, bool, error) {
	before, err := feedBytes(h)
	if err != nil {
		return "", false, err
	}
	if err := errors.Join(makeTreeAt(filepath.Join(dir, "tree"), b.files, 4*kib), h.publish(b.ctx)); err != nil {
		return "", false, err
	}
	after, err := feedBytes(h)
	if err != nil {
		return "", false, err
	}
	each := float64(after-before)/float64(b.files) - 4*kib
	return fmt.Sprintf("%.0f bytes for each of %d files of 4 KiB (their folders, tree and signatures with them)", each, b.files), each < 1000, nil
}

// rewrite saves a file 1,000 times, evenly over 50 s, so that it is never quiet for long.
func (b *bench) rewrite(h *system, dir string) (string, bool, error) {
	before, err := records(h)
	if err != nil {
		return "", false, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, "notes"), []byte(fmt.Sprintln("version", i)), 0o644); err != nil {
			return "", false, err
		}
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return "", false, b.ctx.Err()
		}
	}
	if err := h.publish(b.ctx); err != nil {
		return "", false, err
	}
	after, err := records(h)
	return fmt.Sprintf("%d records", after-before), after-before <= 100, err
}

// manyFiles mounts with many files of 100 bytes in folders of 100: with cold caches, and again for the verdict.
func (b *bench) manyFiles(h *system, dir string) (string, bool, error) {
	start := time.Now()
	if err := makeTreeAt(filepath.Join(dir, "tree"), b.many, 100); err != nil {
		return "", false, err
	}
	made := time.Since(start)
	if err := h.publish(b.ctx); err != nil {
		return "", false, err
	}
	published := time.Since(start) - made
	if err := h.cool(b.ctx, b.root); err != nil {
		return "", false, err
	}
	cold, _, err := answered(h)
	if err := errors.Join(err, h.unmount(b.ctx), h.mount(b.ctx)); err != nil {
		return "", false, err
	}
	warm, pid, err := answered(h)
	if err != nil {
		return "", false, err
	}
	rss, err := resident(pid)
	if err != nil {
		return "", false, err
	}
	start = time.Now()
	if err := commandIn(b.ctx, h.dir, "find", "."); err != nil {
		return "", false, err
	}
	found := time.Since(start)
	after, err := resident(pid)
	figure := fmt.Sprintf("answers %.2f s after the keys were derived, with cold caches %.2f s; RSS %d MiB, after find . %d MiB; found in %.0f s, made in %.0f s, published in %.0f s more",
		warm.Seconds(), cold.Seconds(), rss, after, found.Seconds(), made.Seconds(), published.Seconds())
	return figure, warm < time.Second && rss < 150 && after < 250, err
}

// answered tells how long after deriving its keys the node that was just mounted answers.
func answered(h *system) (after time.Duration, pid int, err error) {
	now := time.Now()
	s, err := statusOf(h)
	return now.Sub(s.Started), s.PID, err
}

// nodeStatus is what is needed of status.json.
type nodeStatus struct {
	PID     int
	Started time.Time // the keys were derived
	Feeds   []struct{ Length uint64 }
}

func statusOf(h *system) (s nodeStatus, err error) {
	out, err := exec.Command(h.tool, "status", "--json", h.dir).Output()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// records counts the blocks of all metadata feeds: they are listed before their content feeds.
func records(h *system) (n uint64, err error) {
	s, err := statusOf(h)
	for i := 0; i < len(s.Feeds); i += 2 {
		n += s.Feeds[i].Length
	}
	return n, err
}

// feedBytes is what everything that the feeds keep takes on the disk; holes, which are in the files of signatures, take nothing.
func feedBytes(h *system) (n int64, err error) {
	err = filepath.WalkDir(filepath.Join(h.state(), "feeds"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err = unix.Lstat(path, &st); err == nil {
			n += st.Blocks * 512
		}
		return err
	})
	return n, err
}

// resident is the resident memory of a process in MiB.
func resident(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmRSS:\s+([0-9]+) kB`).FindSubmatch(text)
	if m == nil {
		return 0, errors.New("no VmRSS")
	}
	n, err := strconv.Atoi(string(m[1]))
	return n / kib, err
}
