package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rtcedge/sip/auth"
)

// DefaultSQL fits the table that Kamailio and OpenSIPS call subscriber; calculate_ha1 must have been off, so that ha1 is filled.
const DefaultSQL = "SELECT ha1 FROM subscriber WHERE username = $1 AND domain = $2"

// Postgres asks a PostgreSQL server. Only HA1 is taken; what is no hash is refused, so that plain passwords never serve.
type Postgres struct {
	pool *pgxpool.Pool
	sql  string
	host string
}

// NewPostgres reads a postgres:// URL with all that libpq knows (sslmode, pool_max_conns and so on); nothing is asked yet. sql has the user as
// $1 and the realm as $2, and gives HA1 of MD5 first and, if there is a second column, that of SHA-256; either may be NULL. Empty: DefaultSQL.
func NewPostgres(text, sql string) (*Postgres, error) {
	cfg, err := pgxpool.ParseConfig(text)
	if err != nil { // its text may hold the password
		return nil, errors.New("not a URL of PostgreSQL (allowed: postgres://USER:PASSWORD@HOST[:PORT]/DATABASE?sslmode=verify-full)")
	}
	if u, err := url.Parse(text); err != nil || !u.Query().Has("pool_max_conns") {
		cfg.MaxConns = 8
	}
	if sql == "" {
		sql = DefaultSQL
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg) // connects when it is asked
	if err != nil {
		return nil, fmt.Errorf("postgres %s: %w", cfg.ConnConfig.Host, err)
	}
	return &Postgres{pool: pool, sql: sql, host: cfg.ConnConfig.Host}, nil
}

// Find asks for one user. Of several rows the first counts.
func (p *Postgres) Find(ctx context.Context, user, realm string) (auth.Credential, bool, error) {
	var hashes [2]*string
	rows, err := p.pool.Query(ctx, p.sql, user, realm)
	if err != nil {
		return auth.Credential{}, false, fmt.Errorf("ask postgres %s: %w", p.host, err)
	}
	defer rows.Close()
	n := len(rows.FieldDescriptions())
	if n > len(hashes) {
		return auth.Credential{}, false, fmt.Errorf("ask postgres %s: the statement gives %d columns (allowed: HA1, HA1 of SHA-256)", p.host, n)
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return auth.Credential{}, false, fmt.Errorf("ask postgres %s: %w", p.host, err)
		}
		return auth.Credential{}, false, nil
	}
	into := []any{&hashes[0], &hashes[1]}
	if err := rows.Scan(into[:n]...); err != nil {
		return auth.Credential{}, false, fmt.Errorf("ask postgres %s: the columns are no text", p.host)
	}
	return credential(text(hashes[0]), text(hashes[1]))
}

// Close ends the pool.
func (p *Postgres) Close() { p.pool.Close() }

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
