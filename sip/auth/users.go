package auth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Users is an immutable set of users, the simplest Provider.
type Users struct{ byName map[string]Credential }

// User is one entry of NewUsers.
type User struct {
	Name, Realm string
	Credential  Credential
}

// NewUsers makes a set. Of two entries with the same name and realm the later one counts.
func NewUsers(list ...User) *Users {
	u := &Users{byName: make(map[string]Credential, len(list))}
	for _, e := range list {
		u.byName[e.Name+"\x00"+e.Realm] = e.Credential
	}
	return u
}

// Lookup finds a user.
func (u *Users) Lookup(user, realm []byte) (Credential, bool) {
	var room [128]byte
	key := append(append(append(room[:0], user...), 0), realm...)
	c, ok := u.byName[string(key)]
	return c, ok
}

// Len is the number of users.
func (u *Users) Len() int { return len(u.byName) }

// Realm lists the users of a realm by name, for those who hand them on to another registrar.
func (u *Users) Realm(realm string) []User {
	var list []User
	for key, c := range u.byName {
		if user, r, _ := strings.Cut(key, "\x00"); r == realm {
			list = append(list, User{Name: user, Realm: realm, Credential: c})
		}
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// ParseUsers reads the lines of a credentials file:
//
//	# htdigest's own form: user, realm, MD5 hash
//	alice:example.com:939e7578ed9e3c518a452acee763bce9
//	# with the SHA-256 hash (RFC 8760); either of the two may be empty
//	alice:example.com:939e7578ed9e3c518a452acee763bce9:4e2b6b...
//	# a plain password, for a lab: hashed while it is read, not kept
//	bob:example.com:password=secret
//
// A user name or realm cannot contain a colon. The error names the line and never what stands in it.
func ParseUsers(text []byte) (*Users, error) {
	var list []User
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		user, err := parseUser(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, user)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return NewUsers(list...), nil
}

func parseUser(line string) (User, error) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return User{}, errors.New("want user:realm:hash or user:realm:password=secret")
	}
	u := User{Name: parts[0], Realm: parts[1]}
	if password, ok := strings.CutPrefix(parts[2], "password="); ok {
		if password == "" {
			return User{}, errors.New("the password is empty")
		}
		u.Credential = NewCredential(u.Name, u.Realm, password)
		return u, nil
	}
	first, second, _ := strings.Cut(parts[2], ":")
	var err error
	u.Credential, err = ParseHashes(first, second)
	return u, err
}

// ParseHashes reads HA1 as hex digits, for MD5 and SHA-256; one of them may be empty. The error does not show what was given.
func ParseHashes(md5, sha256 string) (c Credential, err error) {
	for alg, hash := range [algorithms]string{MD5: md5, SHA256: sha256} {
		if hash == "" {
			continue
		}
		digits := c.ha1(Algorithm(alg))
		if _, err := hex.DecodeString(hash); err != nil || len(hash) != len(digits) {
			return Credential{}, fmt.Errorf("the %s hash is not %d hex digits", Algorithm(alg), len(digits))
		}
		copy(digits, strings.ToLower(hash))
		c.has[alg] = true
	}
	if c.has == [algorithms]bool{} {
		return c, errors.New("neither hash nor password")
	}
	return c, nil
}

// File is a Provider over a credentials file. It reads the file again when it changes.
type File struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[Users]
}

// OpenFile reads a credentials file. log gets the reloads; nil: nothing is logged.
func OpenFile(path string, log *slog.Logger) (*File, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &File{path: path, log: log}
	return f, f.Reload()
}

// Reload reads the file now. On an error the users stay as they were.
func (f *File) Reload() error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	users, err := ParseUsers(text)
	clear(text) // it may hold passwords
	if err != nil {
		return fmt.Errorf("read credentials: %s: %w", f.path, err)
	}
	f.current.Store(users)
	return nil
}

// Lookup finds a user.
func (f *File) Lookup(user, realm []byte) (Credential, bool) {
	return f.current.Load().Lookup(user, realm)
}

// Len is the number of users.
func (f *File) Len() int { return f.current.Load().Len() }

// Run looks at the file every interval (0: 5 s) until ctx ends, and reloads it when it has changed.
func (f *File) Run(ctx context.Context, interval time.Duration) error {
	if interval == 0 {
		interval = 5 * time.Second
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last, _ := os.Stat(f.path)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		info, err := os.Stat(f.path)
		if err != nil || last != nil && info.ModTime().Equal(last.ModTime()) && info.Size() == last.Size() {
			continue
		}
		last = info
		if err := f.Reload(); err != nil {
			f.log.Error("credentials not reloaded, the old ones stay", "error", err)
			continue
		}
		f.log.Info("credentials reloaded", "users", f.Len())
	}
}
