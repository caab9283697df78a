-- What a client reads, by what it says; and names cut into labels. Part of the programs for HAProxy and for Envoy.

local MOST_OF_A_FIELD, MOST_RANGES = 2000, 64

local function split(text, separator)
  local found = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do found[#found + 1] = part end
  return found
end

-- Without the blanks around it. No pattern here tries a long run of anything again from each place in it.
local function trimmed(text)
  local from = text:find("[^ \t]")
  return from and text:match("^.*[^ \t]", from) or ""
end

-- RFC 9110 §12.4.2; nil for a weight that is none
local function quality(parameters)
  for _, parameter in ipairs(parameters) do
    local value = trimmed(parameter):match("^[qQ][ \t]*=(.*)$")
    if value then
      value = trimmed(value)
      local one, zero = value:match("^1$") or value:match("^1%.0?0?0?$"), value:match("^0$") or value:match("^0%.%d?%d?%d?$")
      return (one or zero) and tonumber(value) or nil
    end
  end
  return 1.0
end

local function ranges(text)
  local found = {}
  for place, item in ipairs(split((text or ""):sub(1, MOST_OF_A_FIELD), ",")) do
    if place > MOST_RANGES then break end
    local parameters = split(item, ";")
    local name = trimmed(table.remove(parameters, 1)):lower()
    local weight = quality(parameters)
    if name ~= "" and weight then found[#found + 1] = {name = name, quality = weight} end
  end
  return found
end

local function contains(list, wanted)
  for _, item in ipairs(list) do if item == wanted then return true end end
  return false
end

-- Lookup, RFC 4647 §3.4: `fr-CA` asks for `fr`
local function chosen_language(text, spoken, default)
  local best, best_quality, refused = nil, 0, {}
  for _, range in ipairs(ranges(text)) do
    local language = range.name:match("^[^-]*")
    if range.quality == 0 then refused[range.name] = true end
    if range.quality > best_quality and contains(spoken, language) then best, best_quality = language, range.quality end
  end
  if best then return best end
  if not refused[default] then return default end
  for _, language in ipairs(spoken) do if not refused[language] then return language end end
  return default
end

-- RFC 9110 §12.5.1: by quality, then exactness, then what is named first, then ours by their order
local function chosen_type(text, offers, meant_by)
  local asked, best, best_rating = ranges(text), offers[1], nil
  for _, range in ipairs(asked) do range.name = meant_by(range.name) or range.name end
  for _, offer in ipairs(offers) do
    local rating
    for exactness, pattern in ipairs({"*/*", offer:match("^[^/]*") .. "/*", offer}) do
      for place, range in ipairs(asked) do
        if range.name == pattern then rating = {range.quality, exactness, -place} break end
      end
    end
    if rating and rating[1] > 0 then
      local better = not best_rating
      for part = 1, 3 do
        if better or rating[part] < best_rating[part] then break end
        better = rating[part] > best_rating[part]
      end
      if better then best, best_rating = offer, rating end
    end
  end
  return best
end

local function last_labels(host, count)
  local labels = split(host, ".")
  return table.concat(labels, ".", math.max(1, #labels - count + 1))
end
