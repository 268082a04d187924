package udp

import (
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// setTrafficClass sets the DSCP and ECN byte of outgoing packets where the system lets us. Windows does not, for
// ordinary processes: the call goes through unmarked.
func setTrafficClass(conn *net.UDPConn, v6 bool, tos int) error {
	if v6 {
		return ipv6.NewConn(conn).SetTrafficClass(tos)
	}
	return ipv4.NewConn(conn).SetTOS(tos)
}
