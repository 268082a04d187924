package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// upState is what a running `rtcedge up` leaves for `make demo` on the same account: readable by its owner only, gone at the end.
type upState struct {
	PID      int       `json:"pid"`
	SIP      string    `json:"sip"`
	Admin    string    `json:"admin"`
	NG       string    `json:"ng"`
	Opus     bool      `json:"opus"`
	Accounts []account `json:"accounts"`
}

type account struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// demoAccounts makes 1001..1009 with passwords of this run.
func demoAccounts() []account {
	accounts := make([]account, 9)
	for i := range accounts {
		accounts[i] = account{User: fmt.Sprintf("%d", 1001+i), Password: rand.Text()[:10]}
	}
	return accounts
}

func defaultStateFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "rtcedge", "up.json")
}

// write replaces the file as a whole, so that a reader never sees half of it.
func (s upState) write(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}

// remove deletes the file if it is still this process'.
func (s upState) remove(path string) {
	var now upState
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &now) != nil || now.PID != s.PID {
		return
	}
	_ = os.Remove(path) // gone already: as wanted
}
