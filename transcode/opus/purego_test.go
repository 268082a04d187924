//go:build !cgo

package opus

import (
	"strings"
	"testing"
)

// Without cgo the encoder is refused with a reason that names the cause.
func TestEncoderIsRefused(t *testing.T) {
	_, err := NewEncoder(EncoderConfig{})
	if CanEncode || err == nil || !strings.Contains(err.Error(), "cgo") {
		t.Errorf("CanEncode %v, error %v", CanEncode, err)
	}
}
