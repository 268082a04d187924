package xdp

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Fixed by the kernel: struct bpf_sk_lookup of include/uapi/linux/bpf.h, and the rounding of array values in kernel/bpf/arraymap.c.
const (
	ctxFamily    = 8
	ctxProtocol  = 12
	ctxLocalIP4  = 40 // in network order
	ctxLocalPort = 60 // in host order
	valueStride  = 8
	pass         = 1 // SK_PASS
)

// program is the look-up: address and port find a lane in the table, the lane a socket. Whatever is missing ends with SK_PASS and no
// socket, which is the ordinary look-up.
func (c *Config) program(table, lanes int) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, ctxFamily, asm.Word),
		asm.JNE.Imm(asm.R2, unix.AF_INET, "pass"),
		asm.LoadMem(asm.R2, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_UDP, "pass"),
		asm.LoadMem(asm.R7, asm.R6, ctxLocalPort, asm.Word),
		asm.JLT.Imm(asm.R7, int32(c.PortMin), "pass"),
		asm.JGT.Imm(asm.R7, int32(c.PortMax), "pass"),
		asm.LoadMem(asm.R2, asm.R6, ctxLocalIP4, asm.Word),
	}
	for i, a := range c.Addrs {
		ip := a.As4()
		p = append(p,
			asm.Mov.Imm(asm.R8, int32(i*c.span()-int(c.PortMin))),
			asm.JEq.Imm32(asm.R2, int32(binary.NativeEndian.Uint32(ip[:])), "ours"))
	}
	return append(p,
		asm.Ja.Label("pass"),

		// *(u32 *)(fp-4) = place; value = table[place].
		asm.Add.Reg(asm.R8, asm.R7).WithSymbol("ours"),
		asm.StoreMem(asm.RFP, -4, asm.R8, asm.Word),
		asm.LoadMapPtr(asm.R1, table),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R7, asm.R0, 0, asm.Word),
		asm.JEq.Imm(asm.R7, 0, "pass"),

		// socket = lanes[value-1], with a reference that must be given back.
		asm.Sub.Imm(asm.R7, 1),
		asm.StoreMem(asm.RFP, -4, asm.R7, asm.Word),
		asm.LoadMapPtr(asm.R1, lanes),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),

		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	)
}

// hostOrder is the number as the program reads it.
func hostOrder(n uint32) (b [4]byte) {
	binary.NativeEndian.PutUint32(b[:], n)
	return b
}
