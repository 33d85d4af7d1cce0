package auth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"github.com/sethvargo/go-diceware/diceware"
	"golang.org/x/crypto/blake2b"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// The EFF large word list: 7,776 words, numbered by five dice.
const (
	words      = 7776
	wordsMade  = 8  // of a passphrase: 103 bits without repetition
	wordsShown = 6  // of a request: 77 bits
	minBits    = 80 // of a passphrase that a person chose
)

// word returns word n of the list.
func word(n uint64) string {
	dice, scale := 11111, 1
	for range 5 {
		dice += int(n%6) * scale
		n /= 6
		scale *= 10
	}
	return diceware.WordListEffLarge().WordAt(dice)
}

// uniform returns a number below n, each equally likely.
func uniform(rand io.Reader, n uint64) (uint64, error) {
	for {
		var b [8]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, err
		}
		if v := binary.BigEndian.Uint64(b[:]); v < math.MaxUint64-math.MaxUint64%n {
			return v % n, nil
		}
	}
}

// GeneratePassphrase makes a passphrase of at least 100 bits: eight words of the EFF large list, none twice, joined by a space.
func GeneratePassphrase(rand io.Reader) (string, error) {
	seen := map[uint64]bool{}
	var made []string
	for len(made) < wordsMade {
		n, err := uniform(rand, words)
		if err != nil {
			return "", fmt.Errorf("make a passphrase: %w", err)
		}
		if !seen[n] {
			seen[n] = true
			made = append(made, word(n))
		}
	}
	return strings.Join(made, " "), nil
}

// What the estimator is given.
const (
	maxEstimated = 128 // characters: its time grows with their square
	minRepeated  = 5   // characters that count only once
)

// CheckPassphrase estimates how long a chosen passphrase withstands guessing and refuses one below 80 bits with the reason. Words that a guesser would try first,
// such as the domain and names, are others.
func CheckPassphrase(passphrase, domain string, others ...string) error {
	if strings.TrimSpace(passphrase) == "" {
		return errors.New("it is empty")
	}
	var known []string
	for _, s := range append([]string{domain}, others...) {
		known = append(known, ascii(s))
		if s = strings.TrimSpace(s); len(s) > 2 && strings.EqualFold(strings.TrimSpace(passphrase), s) {
			return errors.New("it is the domain or the node's name")
		}
	}
	estimated := ascii(passphrase)
	estimated = unrepeated(estimated[:min(len(estimated), maxEstimated)])
	bits := min(zxcvbn.PasswordStrength(estimated, known).Entropy, wordBits(estimated, known))
	if bits < minBits {
		return fmt.Errorf("it can be guessed in about 2^%.0f tries, and has to take 2^%d: eight random words do", bits, minBits)
	}
	return nil
}

// wordBits estimates a passphrase as a guesser of words would: each different word costs what choosing it costs, a word of the EFF list
// log2 7776 bits. The estimator alone takes five such words for 80 bits.
func wordBits(s string, known []string) (bits float64) {
	seen := map[string]bool{}
	for _, w := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == ' ' || r == '-' || r == '_' || r == '.' || r == ',' }) {
		switch {
		case seen[w]:
		case effWords()[w]:
			bits += math.Log2(words)
		default:
			bits += zxcvbn.PasswordStrength(w, known).Entropy
		}
		seen[w] = true
	}
	return bits
}

// effWords is the list as a set; of the four hyphenated words both halves.
var effWords = sync.OnceValue(func() map[string]bool {
	set := make(map[string]bool, words)
	for n := range uint64(words) {
		for part := range strings.SplitSeq(word(n), "-") {
			set[part] = true
		}
	}
	return set
})

// ascii makes one lower-case letter of each character that is not ASCII: the estimator counts bytes.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return 'a' + r%26
		}
		return r
	}, s)
}

// unrepeated leaves out what came before in s, in any case: the estimator knows only single characters as repeats.
func unrepeated(s string) string {
	lower := strings.ToLower(s)
	var out []byte
	for i := 0; i < len(s); {
		n := 0
		for i+n < len(s) && strings.Contains(lower[:i], lower[i:i+n+1]) {
			n++
		}
		if n >= minRepeated {
			i += n
			continue
		}
		out = append(out, s[i])
		i++
	}
	return string(out)
}

// Words are six words that name a request of writer for the database source. Two people compare them; both keys go in, so words of another
// Hypha or another key differ. To make a key with given words takes about 2^77 tries.
func Words(source, writer hypercore.Key) string {
	sum := blake2b.Sum512(append(append([]byte("hyphafs words 1"), source[:]...), writer[:]...))
	shown := make([]string, wordsShown)
	for i := range shown {
		shown[i] = word(binary.BigEndian.Uint64(sum[8*i:]) % words)
	}
	return strings.Join(shown, " ")
}
