package udp

// RFC 1035 section 4.1.1: a message begins with ID, flags, and how many questions, answers, authorities and additional records follow.
const dnsHeader = 12 // bytes

// isQuestion reports whether p looks like a DNS query: one question, no answer.
func isQuestion(p []byte) bool {
	return len(p) > dnsHeader && p[2]&0x80 == 0 && p[4] == 0 && p[5] == 1 && p[6] == 0 && p[7] == 0 && p[8] == 0 && p[9] == 0
}

// isAnswer reports whether p looks like the response to one.
func isAnswer(p []byte) bool {
	return len(p) >= dnsHeader && p[2]&0x80 != 0 && p[4] == 0 && p[5] <= 1
}

// talk is what a Flow has been used for. The zero value is one that has not been used.
type talk struct {
	used, other bool // other: for anything but DNS
	open        int  // questions without an answer
}

func (t *talk) request(p []byte) {
	t.used = true
	if !isQuestion(p) {
		t.other = true
	}
	t.open++
}

func (t *talk) answer(p []byte) {
	if !isAnswer(p) {
		t.other = true
	}
	t.open--
}

// done reports whether nothing more is to be expected.
func (t *talk) done() bool { return t.used && !t.other && t.open <= 0 }
