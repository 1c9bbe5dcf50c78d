#include <baton.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* h<payload>,<iterations>: lend payload to callee 0, reply inline/64 bytes */
static double now(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec*1e9+t.tv_nsec;}
int main(void){
  baton_event e; if(baton_open())return 2;
  static char reply[64];
  baton_event out; 
  int have_reply=0;
  for(;;){
    int64_t r=baton_call_gate(BATON_GATE_RECV, have_reply?(uint64_t)&out:0,(uint64_t)&e,0);
    have_reply=0;
    if(r<0) { char b[64]; sprintf(b,"recv %ld",(long)r); baton_log('E',b); return 4;}
    if(e.kind!=BATON_REQUEST) continue;
    const char*b=baton_body(&e);
    if(e.body_len&&b[0]=='h'){
      unsigned long payload,iter; sscanf(b+1,"%lu,%lu",&payload,&iter);
      baton_grant g; int64_t n=baton_call_gate(BATON_GATE_ALLOC,payload,1,(uint64_t)&g);
      char res[128]; int len;
      if(n!=1) len=sprintf(res,"alloc %ld",(long)n);
      else {
        baton_event ans; double t0=0,best=1e18,tb=0; int64_t c=0;
        for(unsigned long i=0;i<iter+100;i++){
          if(i==100) t0=tb=now();
if(i>100&&(i-100)%200==0){double n=now(); if(n-tb<best) best=n-tb;
tb=now();}
          ans=baton_blank(&e,1); ans.kind=BATON_REQUEST; ans.flags=BATON_LEND; ans.body_handle=g.handle; ans.body_generation=g.generation; ans.body_offset=0; ans.body_len=payload;
          c=baton_call_gate(BATON_GATE_CALL,0,(uint64_t)&ans,0); if(c) break;
          if(!(ans.flags&BATON_INLINE)) baton_drop(&ans);
        }
        double t1=now();
        if(c) len=sprintf(res,"call %ld",(long)c); else len=sprintf(res,"%.1f ns, best %.1f",(t1-t0)/iter,best/200);
        baton_pair p={g.handle,g.generation}; baton_call_gate(BATON_GATE_FREE,(uint64_t)&p,1,0);
      }
      baton_reply_bytes(&e,200,res,len);
    } else if(e.code==1){ /* callee: answer with 8 bytes inline */
      out=baton_blank(&e,200); out.kind=BATON_REPLY; out.flags=BATON_INLINE; out.body_len=8; have_reply=1;
    } else if(e.code==2){ out=baton_blank(&e,200); out.kind=BATON_REPLY; out.flags=BATON_BYTES; out.body_offset=(uint64_t)reply; out.body_len=64; have_reply=1; baton_drop(&e);
    } else baton_reply_bytes(&e,200,"?",1);
  }
}
