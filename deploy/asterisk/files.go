package asterisk

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

//go:embed templates
var templates embed.FS

// Node is a checked configuration.
type Node struct{ cfg Config }

// New checks a configuration.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Node{cfg}, nil
}

// Name is the node's name, also where it was left to the default.
func (n *Node) Name() string { return n.cfg.Name }

// Files renders the folder: content by path below it.
func (n *Node) Files() (map[string][]byte, error) {
	all, err := template.ParseFS(templates, "templates/*")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, t := range all.Templates() {
		if t.Name() == "ps_contacts.sql" && n.cfg.Database == "" {
			continue
		}
		var out bytes.Buffer
		if err := t.Execute(&out, &n.cfg); err != nil {
			return nil, fmt.Errorf("render %s: %w", t.Name(), err)
		}
		files[t.Name()] = out.Bytes()
	}
	if n.cfg.Calls() {
		sounds(files)
	}
	return files, nil
}

// Links are symbolic links of the folder. Asterisk's data folder is ours, for the sounds; its XML documentation must be found
// there too, because a module whose options have none does not load, and so are the sounds of a package, if there is one.
func (n *Node) Links() map[string]string {
	return map[string]string{
		"data/documentation": n.cfg.DataDir + "/documentation",
		"data/rest-api":      n.cfg.DataDir + "/rest-api",
		"data/sounds/en":     n.cfg.DataDir + "/sounds/en",
	}
}

// Folders are those that Asterisk writes into.
func (n *Node) Folders() []string {
	return []string{"cache", "db", "lib", "log", "run", "spool/recording", "spool/tmp", "data/sounds", "data/moh"}
}
