-- How much one call does: nobody else is served meanwhile. A command costs the server about 20,000 instructions, with
-- what the script does around it; a script that has made many stops, and its caller asks for the rest.
local effort = { spent = 0, MOST = 650 }
for _, name in ipairs({ 'call', 'pcall' }) do
  local ask = redis[name]
  redis[name] = function(...)
    effort.spent = effort.spent + 1
    return ask(...)
  end
end

function effort.is_enough() return effort.spent >= effort.MOST end

-- JSON that is read and written again, or a text that goes to the caller.
function effort.weigh(text) effort.spent = effort.spent + #(text or '') / 250 end
