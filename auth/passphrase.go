package auth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

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

// maxEstimated bounds the characters that are looked at: the estimator's time grows with their square.
const maxEstimated = 128

// CheckPassphrase estimates how long a chosen passphrase withstands guessing and refuses one below 80 bits with the reason. Words that a guesser would try first,
// such as the domain and names, are others.
func CheckPassphrase(passphrase, domain string, others ...string) error {
	if strings.TrimSpace(passphrase) == "" {
		return errors.New("it is empty")
	}
	lower := strings.ToLower(passphrase)
	for _, known := range append([]string{domain}, others...) {
		if known = strings.ToLower(strings.TrimSpace(known)); len(known) > 2 && lower == known {
			return errors.New("it is the domain or the node's name")
		}
	}
	estimated := passphrase
	if len(estimated) > maxEstimated {
		estimated = estimated[:maxEstimated]
	}
	match := zxcvbn.PasswordStrength(estimated, append([]string{domain}, others...))
	if match.Entropy < minBits {
		return fmt.Errorf("it can be guessed in about 2^%.0f tries, and has to take 2^%d: eight random words do", match.Entropy, minBits)
	}
	return nil
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
