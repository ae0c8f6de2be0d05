"""From an icon's name to its class: style and size go, brands and ambiguous words are dropped."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STYLES = _words("outline outlined fill filled solid regular bold thin light duotone twotone rounded sharp line linear alt variant")
# Packs that put the style first.
STYLE_FIRST = {"ic": _words("baseline outline round sharp twotone")}
# Packs that number the drawings of one concept. Elsewhere a trailing number is part of the name ("dice-1", "battery-2").
NUMBERED = {
    "hugeicons": re.compile(r"0\d"),
    "icon-park-outline": re.compile("one|two|three|four|five|six"),
    "icon-park-solid": re.compile("one|two|three|four|five|six"),
    "tdesign": re.compile(r"\d"),
}
SIZE = re.compile(r"(8|10|12|16|20|24|28|32|48|64|96)(px)?")
USUAL_SIZE = 24

# One word, several concepts: a folder is a file folder or a paper fold, a pin marks a map or a board, a table has legs or cells.
AMBIGUOUS = _words("folder pin table number letter logo brand")
# Trademarks whose word means nothing else: dropped wherever they stand in a name.
BRANDS = _words(
    """adobe airbnb airtable alibaba alipay amazon android angular angularjs anthropic aws azure baidu bandcamp behance bilibili bing
    bitbucket blender blogger bluesky bootstrap bytedance chatgpt chrome chromecast claude codepen codesandbox confluence copilot css3
    debian deepseek deezer deviantart devto dingtalk discord discourse disqus docker douban dribbble dropbox drupal ebay ethereum etsy
    evernote excel facebook faceu fedora figma firebase firefox flickr flutter fortnite foursquare framer freebsd gatsby gemini ghostery
    gitea github gitlab gmail golang google gopro graphql hbo html5 hulu ibm icloud imdb instagram intercom ios iphone itunes java
    javascript jetbrains jira joomla jquery jsfiddle kickstarter kotlin kubernetes laravel lastfm lastpass linkedin linode linux
    litecoin macos mailchimp mastercard mastodon mattermost messenger meta microsoft midjourney mongodb mozilla mysql netflix netlify
    nextcloud nextjs nginx nintendo nodejs notion npm nuxt nvidia ollama onedrive onenote openai opensource patreon paypal periscope
    perplexity photoshop php pinterest playstation pocket pokemon postgresql powerpoint producthunt pytorch qq quora raspberry react
    reddit redhat safari salesforce sass sharepoint shopify skype slack slackware slideshare snapchat soundcloud spotify squarespace
    stackoverflow steam strava stripe supabase svelte tailwind taobao telegram tensorflow tesla tiktok tinder trello tripadvisor tumblr
    twilio twitch twitter typescript uber ubuntu unsplash upwork vercel viber vimeo visa vite vk vkontakte vscode vue vuejs waze webflow
    webpack wechat weibo weixin whatsapp wikipedia wix wordpress xbox xiaodu xigua xing yahoo yandex yelp youtube zeit zhihu zoho"""
)
# Trademarks whose words are everyday words too: dropped only as the whole name.
BRAND_WORDS = _words(
    """app-store apple bitcoin creative-commons css dev edge file-word flux html line markdown medium opera outlook play-store python ripple
    ruby rust signal stack-overflow swift teams threads unity unreal windows word x-twitter zoom"""
)
BRAND_MARKS = _words("brand brands logo logos")


def parse(pack: str, icon: str) -> tuple[str, str, int]:
    """Split an icon's name into (concept, style, size in pixels or 0).

    >>> from fct.datasets.names import parse
    >>> parse("fluent", "arrow-left-20-filled")
    ('arrow-left', 'filled', 20)
    """
    tokens = icon.split("-")
    style: list[str] = []
    size = 0
    if len(tokens) > 1 and tokens[0] in STYLE_FIRST.get(pack, ()):
        style.append(tokens.pop(0))
    if pack == "jam" and len(tokens) > 1 and tokens[-1] == "f":
        style.append(tokens.pop())
    numbered = NUMBERED.get(pack)
    while len(tokens) > 1:
        last = tokens[-1]
        if SIZE.fullmatch(last):
            size = int(last.removesuffix("px"))
        elif last in STYLES or (numbered and numbered.fullmatch(last)):
            style.append(last)
        else:
            break
        tokens.pop()
    return "-".join(tokens), "-".join(style), size


def dropped(concept: str) -> bool:
    """Whether a concept is a brand or ambiguous, and therefore used nowhere."""
    tokens = concept.split("-")
    return concept in AMBIGUOUS or concept in BRAND_WORDS or not BRANDS.isdisjoint(tokens) or not BRAND_MARKS.isdisjoint(tokens)


def spellings(concept: str) -> frozenset[str]:
    """Keys that two ways to write one concept share: word order, joining and plurals are ignored.

    >>> from fct.datasets.names import spellings
    >>> spellings("bar-chart") & spellings("charts-bar") != frozenset()
    True
    """
    words = [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in concept.split("-")]
    return frozenset({"".join(words), " ".join(sorted(words))})
