'use strict'
// The secure-ephemeral message: protobuf { 1: nonce, 2: ciphertext }, crypto_secretbox_easy over JSON text.
const sodium = require('sodium-universal')

function seal (key, nonce, text) {
  const plain = Buffer.from(text, 'utf8')
  const ciphertext = Buffer.alloc(plain.length + 16)
  sodium.crypto_secretbox_easy(ciphertext, plain, nonce, key)
  return Buffer.concat([field(1, nonce), field(2, ciphertext)])
}

// Returns the JSON text, or throws with the reason.
function open (key, message) {
  const { 1: nonce, 2: ciphertext } = fields(message)
  if (!nonce || nonce.length !== 24) throw new Error('nonce length')
  if (!ciphertext || ciphertext.length < 16) throw new Error('too short')
  const plain = Buffer.alloc(ciphertext.length - 16)
  if (!sodium.crypto_secretbox_open_easy(plain, ciphertext, nonce, key)) throw new Error('not for this key, or tampered with')
  const text = plain.toString('utf8')
  JSON.parse(text)
  return text
}

function varint (n) {
  const out = []
  while (n >= 128) { out.push(n % 128 | 128); n = Math.floor(n / 128) }
  out.push(n)
  return Buffer.from(out)
}

const field = (number, bytes) => Buffer.concat([varint(number << 3 | 2), varint(bytes.length), bytes])

// Plain protobuf of bytes and varint fields: { number: last value }.
function fields (buf) {
  const out = {}
  let at = 0
  const next = () => { let v = 0; for (let m = 1; ; m *= 128) { const b = buf[at++]; v += (b & 127) * m; if (b < 128) return v } }
  while (at < buf.length) {
    const tag = next()
    if ((tag & 7) === 0) { out[tag >> 3] = next(); continue }
    if ((tag & 7) !== 2) throw new Error('wire type ' + (tag & 7))
    const n = next()
    if (at + n > buf.length) throw new Error('cut off')
    out[tag >> 3] = buf.subarray(at, at += n)
  }
  return out
}

module.exports = { seal, open, fields }
