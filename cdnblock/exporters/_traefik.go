// Package cdnblock is the plugin that `cdnblock export traefik` writes: Traefik interprets it, nothing is compiled.
//
// All that changes from day to day is in cdnblock.json, which is read again within a tenth of a second of a change.
package cdnblock

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	every          = 100 * time.Millisecond
	mostHops       = 256
	mostOfAField   = 2000
	mostRanges     = 64
	nowhere        = "unknown"
	other          = "other"
	free           = "-"
	uncached       = "uncached"
	unknownInSpans = "--"
)

// Config is what the middleware is told.
type Config struct {
	File string `json:"file,omitempty"`
}

// CreateConfig returns what holds where nothing is told.
func CreateConfig() *Config { return &Config{File: "cdnblock.json"} }

type answer struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
}

type tables struct {
	Names        map[string]string                         `json:"names"`
	Alone        map[string]string                         `json:"alone"`
	Actions      map[string]map[string]string              `json:"actions"`
	IPv4         string                                    `json:"ipv4"`
	IPv6         string                                    `json:"ipv6"`
	TrustedIPv4  string                                    `json:"trusted_ipv4"`
	TrustedIPv6  string                                    `json:"trusted_ipv6"`
	Languages    []string                                  `json:"languages"`
	OwnLanguages map[string]string                         `json:"own_languages"`
	Types        []string                                  `json:"types"`
	ContentTypes map[string]string                         `json:"content_types"`
	MeantBy      map[string]string                         `json:"meant_by"`
	Headers      [][2]string                               `json:"headers"`
	Notices      map[string]map[string]map[string][]string `json:"notices"`
	BadHost      answer                                    `json:"bad_host"`
	Failure      answer                                    `json:"failure"`
	Removed      []string                                  `json:"removed"`
	NoStore      [][2]string                               `json:"no_store"`
}

// A file that is followed, once for all middlewares that have it.
type source struct {
	lock    sync.RWMutex
	file    string
	changed time.Time
	size    int64
	tables  *tables
}

var (
	sources     = map[string]*source{}
	sourcesLock sync.Mutex
	hosts       = regexp.MustCompile(`(?i)^(?:([0-9a-z._-]+)|\[[0-9a-f:.]+\])(?::[0-9]*)?$`)
	bracketed   = regexp.MustCompile(`^\[([^\]]*:[^\]]*)\](?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?$`)
	dotted      = regexp.MustCompile(`^([^:]*\.[^:]*)(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?$`)
	qualities   = regexp.MustCompile(`^(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$`)
)

func sourceOf(file string) (*source, error) {
	sourcesLock.Lock()
	defer sourcesLock.Unlock()
	if found, there := sources[file]; there {
		return found, nil
	}
	made := &source{file: file}
	if err := made.read(); err != nil {
		return nil, err
	}
	sources[file] = made
	go made.follow()
	return made, nil
}

func (s *source) read() error {
	told, err := os.Stat(s.file)
	if err != nil {
		return err
	}
	if told.ModTime() == s.changed && told.Size() == s.size {
		return nil
	}
	s.changed, s.size = told.ModTime(), told.Size()
	text, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	read := &tables{}
	if err := json.Unmarshal(text, read); err != nil {
		return err
	}
	if read.BadHost.Status == 0 || read.Failure.Status == 0 {
		return fmt.Errorf("%s is not what was exported", s.file)
	}
	s.lock.Lock()
	s.tables = read
	s.lock.Unlock()
	return nil
}

// What cannot be read leaves in force what was read before.
func (s *source) follow() {
	for {
		time.Sleep(every)
		if err := s.read(); err != nil {
			fmt.Fprintln(os.Stderr, "cdnblock: the orders as they were stay in force:", err)
		}
	}
}

func (s *source) now() *tables {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return s.tables
}

type handler struct {
	next   http.Handler
	source *source
}

// New returns the middleware.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	found, err := sourceOf(config.File)
	if err != nil {
		return nil, err
	}
	return &handler{next: next, source: found}, nil
}

func (h *handler) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	known := h.source.now()
	said, verdict := decided(known, request)
	if verdict == uncached {
		h.next.ServeHTTP(&marking{ResponseWriter: writer, tables: known}, request)
		return
	}
	if said != nil {
		send(writer, said)
		return
	}
	h.next.ServeHTTP(writer, request)
}

// An answer; or none, and what the action is. What cannot be decided is not let through.
func decided(known *tables, request *http.Request) (said *answer, verdict string) {
	defer func() {
		if wrong := recover(); wrong != nil {
			fmt.Fprintln(os.Stderr, "cdnblock:", wrong)
			said, verdict = &known.Failure, ""
		}
	}()
	host := hosts.FindStringSubmatch(request.Host)
	if host == nil {
		return &known.BadHost, ""
	}
	name := strings.ToLower(strings.TrimRight(host[1], "."))
	group := groupOf(known, name)
	if group == "" || group == free {
		return nil, ""
	}
	client, there := clientOf(known, request)
	place := placeOf(known, client, there)
	verdict = known.Actions[group][place]
	if verdict == "" || verdict == uncached {
		return nil, verdict
	}
	return notice(known, verdict, name, place, request.Header), ""
}

// The longest name that a host is, or is below.
func groupOf(known *tables, name string) string {
	if group, there := known.Alone[name]; there {
		return group
	}
	for name != "" {
		if group, there := known.Names[name]; there {
			return group
		}
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return ""
		}
		name = name[dot+1:]
	}
	return ""
}

func send(writer http.ResponseWriter, said *answer) {
	for _, line := range said.Headers {
		writer.Header().Set(line[0], line[1])
	}
	writer.Header().Set("Content-Length", strconv.Itoa(len(said.Body)))
	writer.WriteHeader(said.Status)
	_, _ = writer.Write([]byte(said.Body))
}

// One hop of X-Forwarded-For: an address, perhaps in brackets, perhaps with a port.
func nodeAddress(node string) (netip.Addr, bool) {
	if inside := bracketed.FindStringSubmatch(node); inside != nil {
		node = inside[1]
	} else if before := dotted.FindStringSubmatch(node); before != nil {
		node = before[1]
	}
	address, err := netip.ParseAddr(node)
	if err != nil {
		return address, false
	}
	return address.WithZone("").Unmap(), true
}

// From the right: the first address that no trusted proxy has. What one of them wrote and cannot be read hides the client.
func clientOf(known *tables, request *http.Request) (netip.Addr, bool) {
	peer, _, err := net.SplitHostPort(request.RemoteAddr)
	if err != nil {
		peer = request.RemoteAddr
	}
	client, there := nodeAddress(peer)
	if !there || !isTrusted(known, client) {
		return client, there
	}
	hops := 0
	nodes := strings.Split(strings.Join(request.Header.Values("X-Forwarded-For"), ","), ",")
	for place := len(nodes) - 1; place >= 0; place-- {
		node := strings.Trim(nodes[place], " \t")
		if node == "" {
			continue
		}
		hops++
		client, there = nodeAddress(node)
		if !there || hops > mostHops {
			return client, false
		}
		if !isTrusted(known, client) {
			break
		}
	}
	return client, true
}

func isTrusted(known *tables, address netip.Addr) bool {
	if address.Is4() {
		return within(known.TrustedIPv4, digits(address), 8) != ""
	}
	return within(known.TrustedIPv6, digits(address), 32) != ""
}

func digits(address netip.Addr) string {
	return fmt.Sprintf("%x", address.AsSlice())
}

// The client's own address, out of its tunnel: 6to4, NAT64, Teredo.
func unwrapped(address string) string {
	switch {
	case len(address) == 8:
		return address
	case strings.HasPrefix(address, "2002"):
		return address[4:12]
	case strings.HasPrefix(address, "0064ff9b0000000000000000"):
		return address[24:]
	case strings.HasPrefix(address, "20010000"):
		number, _ := strconv.ParseUint(address[24:], 16, 32)
		return fmt.Sprintf("%08x", 0xFFFFFFFF-number)
	}
	return address
}

func placeOf(known *tables, client netip.Addr, there bool) string {
	if !there {
		return nowhere
	}
	address, place := unwrapped(digits(client)), ""
	if len(address) == 8 {
		place = within(known.IPv4, address, 8)
	} else {
		network := address[:16]
		if network == "0000000000000000" || network == "0064ff9b00000000" {
			return nowhere
		}
		place = within(known.IPv6, network, 16)
	}
	if place == unknownInSpans {
		return nowhere
	}
	if place == "" {
		return other
	}
	return place
}

// Each span is a first and a last address of as many digits as width, two characters that say what, and a line end.
func within(spans string, address string, width int) string {
	size := 2*width + 3
	at := sort.Search(len(spans)/size, func(number int) bool { return spans[number*size:number*size+width] > address }) - 1
	if at < 0 || address > spans[at*size+width:at*size+2*width] {
		return ""
	}
	return spans[at*size+2*width : at*size+2*width+2]
}

func notice(known *tables, outcome string, name string, place string, fields http.Header) *answer {
	own, there := known.OwnLanguages[place]
	if !there {
		own = known.OwnLanguages[other]
	}
	language := chosenLanguage(known, strings.Join(fields.Values("Accept-Language"), ","), own)
	kind := chosenType(known, strings.Join(fields.Values("Accept"), ","))
	labels := strings.Split(name, ".")
	body := []string{} // on a line of its own: the interpreter loses what stands before such a value
	for number, part := range known.Notices[outcome][language][kind] {
		if number%2 == 1 {
			count, _ := strconv.Atoi(part)
			if count > len(labels) {
				count = len(labels)
			}
			part = strings.Join(labels[len(labels)-count:], ".")
		}
		body = append(body, part)
	}
	lines := [][2]string{{"Content-Type", known.ContentTypes[kind]}, {"Content-Language", language}}
	return &answer{Status: 451, Headers: append(lines, known.Headers...), Body: strings.Join(body, "")}
}

type asked struct {
	name    string
	quality float64
}

// RFC 9110 §12.4.2: each range with its weight; one whose weight is none is passed over.
func ranges(text string) []asked {
	if len(text) > mostOfAField {
		text = text[:mostOfAField]
	}
	found := []asked{}
	for number, item := range strings.Split(text, ",") {
		if number >= mostRanges {
			break
		}
		parts := strings.Split(item, ";")
		weight, readable := 1.0, true
		for _, parameter := range parts[1:] {
			key, value, _ := strings.Cut(parameter, "=")
			if strings.EqualFold(strings.Trim(key, " \t"), "q") {
				value = strings.Trim(value, " \t")
				readable = qualities.MatchString(value)
				weight, _ = strconv.ParseFloat(value, 64)
				break
			}
		}
		name := strings.ToLower(strings.Trim(parts[0], " \t"))
		if name != "" && readable {
			found = append(found, asked{name: name, quality: weight})
		}
	}
	return found
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}

// Lookup, RFC 4647 §3.4: `fr-CA` asks for `fr`.
func chosenLanguage(known *tables, text string, own string) string {
	best, highest := "", 0.0
	refused := map[string]bool{}
	for _, item := range ranges(text) {
		language, _, _ := strings.Cut(item.name, "-")
		if item.quality == 0 {
			refused[item.name] = true
		}
		if item.quality > highest && contains(known.Languages, language) {
			best, highest = language, item.quality
		}
	}
	if best != "" {
		return best
	}
	for _, language := range append([]string{own}, known.Languages...) {
		if !refused[language] {
			return language
		}
	}
	return own
}

// RFC 9110 §12.5.1: by quality, then exactness, then what is named first, then ours by their order.
func chosenType(known *tables, text string) string {
	wanted := ranges(text)
	best := known.Types[0]
	quality, exactness, earliness := 0.0, 0, 0
	for _, offer := range known.Types {
		place, exact := mostExact(known, wanted, offer)
		if place < 0 || wanted[place].quality <= 0 {
			continue
		}
		mine := wanted[place].quality
		if mine > quality || (mine == quality && (exact > exactness || (exact == exactness && -place > earliness))) {
			best = offer
			quality, exactness, earliness = mine, exact, -place
		}
	}
	return best
}

// Which range is about a type, and how exactly; -1 where none is.
func mostExact(known *tables, wanted []asked, offer string) (int, int) {
	kind := offer[:strings.IndexByte(offer, '/')]
	patterns := []string{"*/*", kind + "/*", offer}
	for exact := 2; exact >= 0; exact-- {
		for place, item := range wanted {
			name := item.name
			if meant, there := known.MeantBy[name]; there {
				name = meant
			}
			if name == patterns[exact] {
				return place, exact
			}
		}
	}
	return -1, 0
}

// A response under measure `cdn`: no cache on the way may keep it.
type marking struct {
	http.ResponseWriter
	tables *tables
	marked bool
}

func (m *marking) mark() {
	if m.marked {
		return
	}
	m.marked = true
	for _, name := range m.tables.Removed {
		m.ResponseWriter.Header().Del(name)
	}
	for _, line := range m.tables.NoStore {
		m.ResponseWriter.Header().Set(line[0], line[1])
	}
}

// WriteHeader marks the final answer, not what comes before it.
func (m *marking) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		m.mark()
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *marking) Write(octets []byte) (int, error) {
	m.mark()
	return m.ResponseWriter.Write(octets)
}

// Flush passes on what has no end as it comes.
func (m *marking) Flush() {
	m.mark()
	if flusher, can := m.ResponseWriter.(http.Flusher); can {
		flusher.Flush()
	}
}

// Hijack lets WebSockets be.
func (m *marking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if hijacker, can := m.ResponseWriter.(http.Hijacker); can {
		return hijacker.Hijack()
	}
	return nil, nil, fmt.Errorf("%T cannot be taken over", m.ResponseWriter)
}
