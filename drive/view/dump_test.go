package view

import "fmt"

// ConflictName is conflictName for tests of other packages.
var ConflictName = conflictName

// Dump lists the rows of a view, opened, for tests that compare two.
func (v *View) Dump() (out []string) {
	if err := v.read(func(t *txn) error {
		return t.scan(nil, func(row, plain []byte) (bool, error) {
			out = append(out, fmt.Sprintf("%c %x %x", row[0], row[1:], plain))
			return true, nil
		})
	}); err != nil {
		out = append(out, err.Error())
	}
	return out
}
