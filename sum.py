import re,sys,statistics as s
from collections import defaultdict
d=defaultdict(lambda: defaultdict(list))
for l in open(sys.argv[1]):
    p=l.split()[0]; n=re.findall(r'[\d.]+',l.strip()[len(p):])
    if 'create' in l:
        for k,i in dict(create=0,cpu=1,pub=2,mean=-5,p50=-4,p99v=-3,wcpu=-1).items(): d[k][p].append(float(n[i]))
    else: d['grep'][p].append(float(n[0])); d['rm'][p].append(float(n[1]))
for k in d: print(k,{p:(round(s.median(v),2),round(s.mean(v),2),len(v)) for p,v in d[k].items()})
