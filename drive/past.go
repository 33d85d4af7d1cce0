package drive

import (
	"errors"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/record"
)

// past is the view's Past: a version of an inode, from the feeds.
func (d *Drive) past(id record.ID, v record.Version) (*record.Inode, error) {
	rec, err := d.version(id, v)
	if errors.Is(err, hypercore.ErrNotStored) || errors.Is(err, hyperdb.ErrBadEntry) || errors.Is(err, record.ErrInvalid) ||
		errors.Is(err, record.ErrSealed) || errors.Is(err, record.ErrUnknownVersion) || errors.Is(err, record.ErrUnknownEpoch) {
		return nil, nil // a fold passes it over as well
	}
	return rec, err
}

func (d *Drive) version(id record.ID, v record.Version) (*record.Inode, error) {
	e, err := d.db.Entry(v.Feed, v.Seq)
	if err != nil {
		return nil, err
	}
	if k, err := record.ParseKey(e.Key); err != nil || k.Family != record.Inodes || k.ID != id {
		return nil, record.ErrInvalid
	}
	plain, err := d.cfg.Keys.Open(v.Feed, e.Key, e.Value)
	if err != nil {
		return nil, err
	}
	rec, err := record.DecodeInode(plain)
	if err != nil {
		return nil, err
	}
	return rec, d.unpage(id, rec)
}
