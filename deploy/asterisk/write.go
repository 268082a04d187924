package asterisk

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sumsFile lists what Write wrote, in the form of sha256sum, so that an operator's changes are seen: `sha256sum -c rtcedge.sums`.
const sumsFile = "rtcedge.sums"

// ErrForeign is what Write refuses with: files that it would overwrite and that are not as it wrote them.
var ErrForeign = errors.New("not written by asterisk-config, or changed since")

// Write puts the files into a folder, which may be there. Files that somebody else wrote or changed stay, and are an error that
// names them, before anything is written; with force they are overwritten and returned.
func (n *Node) Write(dir string, force bool) (overwritten []string, err error) {
	files, err := n.Files()
	if err != nil {
		return nil, err
	}
	old, err := readSums(filepath.Join(dir, sumsFile))
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		there, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
		if s := sum(there); s != sum(files[name]) && s != old[name] {
			overwritten = append(overwritten, name)
		}
	}
	if len(overwritten) > 0 && !force {
		return nil, fmt.Errorf("%s: %s: %w", dir, strings.Join(overwritten, ", "), ErrForeign)
	}
	return overwritten, n.write(dir, files)
}

func (n *Node) write(dir string, files map[string][]byte) error {
	for _, f := range n.Folders() {
		if err := os.MkdirAll(filepath.Join(dir, f), 0o755); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	var sums bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		// ARI's password and the accounts' hashes: for the owner and the group that Asterisk runs as.
		if err := os.WriteFile(path, files[name], 0o640); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum(files[name]), name)
	}
	for name, target := range n.Links() {
		path := filepath.Join(dir, name)
		if there, err := os.Readlink(path); err == nil && there == target {
			continue
		} else if err == nil {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
		}
		if err := os.Symlink(target, path); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), sums.Bytes(), 0o640)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func readSums(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if s, name, ok := strings.Cut(lines.Text(), "  "); ok {
			sums[name] = s
		}
	}
	return sums, nil
}
