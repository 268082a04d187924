//go:build !linux

package udp

import "syscall"

const errAddrInUse = syscall.EADDRINUSE

func newDriver(l *Loop) (driver, error) { return newNetDriver(l), nil }
