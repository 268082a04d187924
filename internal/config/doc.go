// Package config turns flags, environment and a YAML file into the knobs of a role. It knows nothing of any role: a role
// declares its knobs on a Set, which also prints them for --help, so that the list a reader sees is the list that works.
//
// The way of a value:
//
//  1. The role declares knobs with name, default, unit and a sentence (Set.Int, Set.Addr, Set.List, ...).
//  2. Parse reads the flags, then the file that --config or RTCEDGE_CONFIG names, then the environment.
//  3. A flag wins over RTCEDGE_NAME, that over the file's key, that over the default.
//  4. Every value goes through the same check of its knob. An error names where the value stood (flag, variable or
//     file:line), which knob it is and what is allowed.
//
// It is not a registry: two Sets know nothing of each other.
package config
