-- Policies are for the clients in France alone, and so is what the packet cache keeps for them.
local france = newNMG()
france:addMasks({ "127.10.0.0/16" })

function gettag(remote, ednssubnet, localip, qname, qtype, ednsoptions, tcp, proxyprotocolvalues)
  return france:match(remote) and 1 or 0
end

function prerpz(dq)
  if not france:match(dq.remoteaddr) then
    dq:discardPolicy("pass-fr")
    dq:discardPolicy("delta-fr")
    dq:discardPolicy("base-fr")
  end
  return false
end
