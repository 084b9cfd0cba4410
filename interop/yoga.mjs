// A GraphQL gateway's event target over Redis: says what it hears, and answers each tick. For yoga_test.go to judge.
//   node yoga.mjs REDIS-URL PREFIX
import {createRedisEventTarget} from '@graphql-yoga/redis-event-target'
import {createPubSub} from '@graphql-yoga/subscription'
import Redis from 'ioredis'

const [url, prefix] = process.argv.slice(2)
const say = (what, value) => console.log(JSON.stringify({what, value}))
const publishClient = new Redis(url)
const pubSub = createPubSub({
  eventTarget: createRedisEventTarget({publishClient, subscribeClient: new Redis(url)}),
})

const listen = async (name, id, then) => {
  for await (const payload of id === undefined ? pubSub.subscribe(prefix + name) : pubSub.subscribe(prefix + name, id)) {
    say(id === undefined ? name : `${name}:${id}`, payload)
    then?.(payload)
  }
}

listen('tick', '42', payload => {
  pubSub.publish(prefix + 'answer', 'a:1', {got: payload, text: 'é€😀', list: [1, null]})
  pubSub.publish(prefix + 'plain', 7)
  pubSub.publish(prefix + 'nothing', null)
  publishClient.publish(prefix + 'empty:1', '') // as of an event without a detail
  pubSub.publish(prefix + 'last', '1', 'end')
})
listen('note')
listen('odd', '*?[a]\\ b')
