package faultfs

import (
	"strings"
	"syscall"
)

// Rule lets calls fail. The zero Rule fails none.
type Rule struct {
	Kinds  []Kind        // which calls; none: all that change something or fsync
	Path   string        // only those on a file whose path, from the root, begins with it
	Skip   int           // how many of them go well first
	Count  int           // how many fail then; 0: all
	Errno  syscall.Errno // with what
	Stored bool          // the call is carried out although it fails
	Short  bool          // a write stores half of its bytes, and says so instead of failing
}

func (r *Rule) matches(kind Kind, path string) bool {
	if !strings.HasPrefix(path, r.Path) {
		return false
	}
	for _, k := range r.Kinds {
		if k == kind {
			return true
		}
	}
	return len(r.Kinds) == 0 && kind != Read
}

// hit returns the rule if a call that matches fails now, and counts the call.
func (r *Rule) hit() (Rule, bool) {
	if r.Errno == 0 && !r.Short {
		return Rule{}, false
	}
	if r.Skip > 0 {
		r.Skip--
		return Rule{}, false
	}
	now := *r
	if r.Count > 0 {
		if r.Count--; r.Count == 0 {
			*r = Rule{}
		}
	}
	return now, true
}
