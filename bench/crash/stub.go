package main

import (
	"context"
	"rtcedge/bench/lab"
)

func midway(ctx context.Context, l *bench) error    { return nil }
func early(ctx context.Context, l *bench) error     { return nil }
func homer(ctx context.Context, l *bench) error     { return nil }
func partition(ctx context.Context, l *bench) error { return nil }
func forged(ctx context.Context, l *bench) error    { return nil }
func withoutCapture(c *lab.Config)                  {}
func machines(c *lab.Config)                        {}
func guarded(c *lab.Config)                         {}
