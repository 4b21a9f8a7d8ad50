package cms

// normalise brings BER to DER, as far as structure goes: definite and shortest
// lengths, strings in one piece. The contents of primitive elements and the
// order of sets stay as they are: what was signed must not change, and what
// the syntax needs in order is put in order where it is needed.
//
// It works in one pass over the message, which lists the elements and adds up
// their lengths, and one over that list, which writes them. A message that is
// DER already comes back as it is, not copied. What follows the outermost
// element is an error.
func normalise(ber []byte, l Limits) ([]byte, error) {
	r := reader{in: ber, limits: l.or()}
	if len(ber) > r.limits.Size {
		return nil, overLimit("message: %d octets, at most %d are read", len(ber), r.limits.Size)
	}
	r.nodes = make([]node, 0, min(r.limits.Elements, 16+len(ber)/32))
	if err := r.read(); err != nil {
		return nil, err
	}
	if !r.changed {
		return ber, nil
	}
	return r.write(), nil
}

const (
	constructed = 0x20
	universal   = 0xc0 // mask: zero bits mean the universal class
)

// reader lists the elements of a message.
type reader struct {
	in      []byte
	limits  Limits
	pos     int
	nodes   []node // in the order in which they begin
	open    []frame
	changed bool // it is not DER
	steps   int  // counted for the test of complexity
}

// node is one element. A bare one is a piece of a string: only its contents
// are written.
type node struct {
	tag    byte // as it is written
	bare   bool
	leaf   bool
	start  int // leaf: where its contents are in the input
	length int // of its contents in DER
}

// frame is an element whose end has not been reached.
type frame struct {
	node       int
	limit      int  // no element in it may go beyond
	indefinite bool // it ends with an end-of-contents, not at limit
	str        bool // it is a string in pieces
}

func (r *reader) read() error {
	for {
		r.steps++
		if err := r.header(); err != nil {
			return err
		}
		r.close()
		if len(r.open) == 0 {
			break
		}
	}
	if r.pos != len(r.in) {
		return malformed("message: %d octets after its end", len(r.in)-r.pos)
	}
	return nil
}

// close ends every open element that is complete.
func (r *reader) close() {
	for len(r.open) > 0 {
		f := r.open[len(r.open)-1]
		if f.indefinite {
			if f.limit-r.pos < 2 || r.in[r.pos] != 0 || r.in[r.pos+1] != 0 {
				return
			}
			r.pos += 2
		} else if r.pos < f.limit {
			return
		}
		r.steps++
		r.open = r.open[:len(r.open)-1]
		r.account(f.node)
	}
}

// account adds a complete element to the length of the one around it.
func (r *reader) account(n int) {
	if len(r.open) == 0 {
		return
	}
	size := r.nodes[n].length
	if !r.nodes[n].bare {
		size += 1 + lengthOctets(size)
	}
	r.nodes[r.open[len(r.open)-1].node].length += size
}

// header reads identifier and length of the next element, and the contents of
// a primitive one (X.690, section 8.1).
func (r *reader) header() error {
	limit, inString := len(r.in), false
	if n := len(r.open); n > 0 {
		limit, inString = r.open[n-1].limit, r.open[n-1].str
	}
	if limit-r.pos < 2 {
		return malformed("message: it ends within an element")
	}
	tag := r.in[r.pos]
	length, indefinite, err := r.length(limit)
	if err != nil {
		return err
	}
	str, err := kind(tag, inString)
	if err != nil {
		return err
	}
	if len(r.nodes) == r.limits.Elements {
		return overLimit("message: more than %d elements", r.limits.Elements)
	}
	n := node{tag: tag, bare: inString, leaf: tag&constructed == 0, start: r.pos}
	if str {
		n.tag &^= constructed
		r.changed = true
	}
	if n.leaf {
		if indefinite {
			return malformed("message: a primitive element of indefinite length")
		}
		n.length = length
		r.pos += length
		r.nodes = append(r.nodes, n)
		r.account(len(r.nodes) - 1)
		return nil
	}
	if len(r.open) == r.limits.Depth {
		return overLimit("message: nested deeper than %d", r.limits.Depth)
	}
	if !indefinite {
		limit = r.pos + length
	}
	r.changed = r.changed || indefinite
	r.nodes = append(r.nodes, n)
	r.open = append(r.open, frame{node: len(r.nodes) - 1, limit: limit, indefinite: indefinite, str: str})
	return nil
}

// kind says whether an element is a string in pieces, and refuses tags that
// cannot stand where it stands.
func kind(tag byte, inString bool) (str bool, err error) {
	number := tag & 0x1f
	switch {
	case number == 0x1f:
		return false, malformed("message: a tag number over 30")
	case inString && tag&^constructed != 4:
		// X.690, section 8.21: the pieces of every string are octet strings.
		return false, malformed("message: a string in pieces that are not octet strings")
	case tag&universal != 0:
		return false, nil
	case number == 0:
		return false, malformed("message: an end-of-contents out of place")
	case number == 16 || number == 17 || number == 8 || number == 11:
		if tag&constructed == 0 {
			return false, malformed("message: a sequence or set that is not constructed")
		}
		return false, nil
	case tag&constructed == 0:
		return false, nil
	case number == 4 || number == 12 || number >= 18:
		return true, nil
	}
	// That includes bit strings: nothing in CMS that a client makes has long ones.
	return false, malformed("message: a constructed element of type %d", number)
}

// length reads the length octets after the identifier at pos and moves to the
// contents.
func (r *reader) length(limit int) (n int, indefinite bool, err error) {
	first := r.in[r.pos+1]
	r.pos += 2
	switch {
	case first < 0x80:
		n = int(first)
	case first == 0x80:
		return 0, true, nil
	default:
		count := int(first & 0x7f)
		if count > 8 || limit-r.pos < count {
			return 0, false, malformed("message: a length that cannot be read")
		}
		for _, c := range r.in[r.pos : r.pos+count] {
			if n >= 1<<23 {
				return 0, false, malformed("message: an element longer than the message")
			}
			n = n<<8 | int(c)
		}
		r.pos += count
		r.changed = r.changed || 1+count != lengthOctets(n)
	}
	if n > limit-r.pos {
		return 0, false, malformed("message: an element longer than what it stands in")
	}
	return n, false, nil
}

// lengthOctets returns how many octets the shortest form of a length takes.
func lengthOctets(n int) int {
	octets := 1
	if n >= 0x80 {
		for ; n > 0; n >>= 8 {
			octets++
		}
	}
	return octets
}

// write returns the listed elements in DER.
func (r *reader) write() []byte {
	out := make([]byte, 0, r.nodes[0].length+1+lengthOctets(r.nodes[0].length))
	for _, n := range r.nodes {
		r.steps++
		if !n.bare {
			out = append(out, n.tag)
			if octets := lengthOctets(n.length); octets == 1 {
				out = append(out, byte(n.length))
			} else {
				out = append(out, 0x80|byte(octets-1))
				for shift := 8 * (octets - 2); shift >= 0; shift -= 8 {
					out = append(out, byte(n.length>>shift))
				}
			}
		}
		if n.leaf {
			out = append(out, r.in[n.start:n.start+n.length]...)
		}
	}
	return out
}
